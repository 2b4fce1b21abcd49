"""``millrace serve``: keeper and workers, until told to stop."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Final

import typer

from millrace.app.commands.options import HomeOption, PortOption, SetOption, open_settings, with_port
from millrace.app.settings import Settings
from millrace.base.errors import ConfigError

if TYPE_CHECKING:
    from millrace.app.lifeline import Lifeline


def serve(
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, max=256, help="Serving processes; default: as configured.")
    ] = None,
    port: PortOption = None,
    virtual_time: Annotated[
        bool,
        typer.Option(
            "--virtual-time",
            help="Event time is moved by ClockTick events alone, for simulations on this machine; the home stays so.",
        ),
    ] = False,
    home: HomeOption = None,
    overrides: SetOption = None,
) -> None:
    """Serve feeds over HTTP until Ctrl-C or SIGTERM.

    Starts a keeper, which writes checkpoints, and workers, which answer. A process that dies is started again.
    Development mode (the default) answers this machine only, and gives anybody any viewer's feed. With
    --set auth.mode=tokens viewers carry tokens (millrace token) and others API keys (millrace keys).

    Example: millrace serve --workers 2
    """
    from rich.markup import escape

    from millrace.app.checkpoints import records_to_fold
    from millrace.app.commands.printing import count, notes
    from millrace.app.commands.taking_in import FOLDED_AHEAD_FROM
    from millrace.app.http_address import check_address
    from millrace.app.supervisor import Address
    from millrace.app.supervisor import serve as run_server
    from millrace.app.virtual_time import enter_virtual_time, has_virtual_time
    from millrace.app.wiring import build_api_keys

    settings = open_settings(home, with_port(overrides, port), checks_params=True)
    check_address(settings.config)
    check_ranker_runs(settings)
    check_alone(settings)
    is_virtual = virtual_time or has_virtual_time(settings)
    if is_virtual:
        enter_virtual_time(settings)
    start_logging()
    console = notes()
    console.print(f"[dim]starting {escape(str(settings.home))} …[/]", soft_wrap=True)
    if settings.config.auth.mode == "tokens" and not build_api_keys(settings).all():
        console.print("[yellow]No API keys yet:[/] nobody may ingest or operate; see millrace keys add", soft_wrap=True)
    n_to_fold = records_to_fold(settings)
    if n_to_fold > FOLDED_AHEAD_FROM:
        console.print(f"[dim]{count(n_to_fold, 'record')} are not in a checkpoint yet and are folded first …[/]")

    def announce(address: Address) -> None:
        time = "; virtual time: ClockTick events move it" if is_virtual else ""
        console.print(f"Ready: [bold]{address.url}[/]  ({_MODES[settings.config.auth.mode]}{time})", soft_wrap=True)

    def teach(lifeline: Lifeline) -> None:
        from millrace.app.learner import learn

        learn(settings, lifeline)

    run_server(settings, workers, announce, learner=teach if settings.config.flywheel.learns else None)
    console.print("[dim]stopped[/]")


_MODES: Final = {
    "development": "development mode: this machine only, and anybody may ask for anything",
    "tokens": "tokens mode: viewers carry tokens, others API keys",
}


def check_ranker_runs(settings: Settings) -> None:
    """Refuse a runner that cannot run here, before a worker is started that would only end by it.

    Raises
    ------
    ConfigError
        With what to install.
    """
    from millrace.inference.runner_choice import check_runner

    home = settings.config.home
    if not home.rank_servers:  # else it runs there
        check_runner(home.runner, home.precision)


def check_alone(settings: Settings) -> None:
    """Refuse a second server of one home: it would wait for ever for the first one's keeper to end.

    Raises
    ------
    ConfigError
        If one is running.
    """
    from millrace.app.keeper_lock import running_keeper

    pid = running_keeper(settings.data_dir)
    if pid is not None:
        raise ConfigError(
            "home folder",
            value=str(settings.home),
            problem=f"a server is running on it already (its keeper is process {pid})",
            remedy="use that one, or stop it first",
        )


def start_logging(*, quiet: bool = False) -> None:
    """Let our rooms' log messages appear on stderr; ``quiet``: only what went wrong, and what the learner tells."""
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(process)d %(name)s: %(message)s",
        force=True,
    )
    if quiet:
        from millrace.app import learner

        learner.logger.setLevel(logging.INFO)  # somebody waits for it
