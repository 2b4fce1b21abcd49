"""``millrace rank-server``: rankers behind an address of their own, for feed servers that do not run one themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from millrace.app.commands.options import HomeOption, open_settings
from millrace.base.errors import ConfigError


def rank_server(
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="FOLDER",
            help="An exported ranker (served of millrace train ranker); default: what the home's registry promotes.",
            show_default=False,
        ),
    ] = None,
    address: Annotated[
        str, typer.Option("--address", metavar="HOST:PORT", help="Where to listen; port 0 takes a free one.")
    ] = "127.0.0.1:8101",
    metrics: Annotated[
        str,
        typer.Option("--metrics", metavar="HOST:PORT", help="Where to show metrics over HTTP.", show_default=False),
    ] = "",
    trust_network: Annotated[
        bool,
        typer.Option("--trust-network", help="Listen where other machines reach it: nobody has to say who they are."),
    ] = False,
    runner: Annotated[
        str,
        typer.Option(
            "--runner",
            help="onnx, torch (a GPU where there is one) or numpy; default: home.runner, with --model onnx.",
            show_default=False,
        ),
    ] = "",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="fp32, int8 (onnx) or bf16 (torch); default: home.precision, with --model fp32.",
            show_default=False,
        ),
    ] = "",
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, max=4096, help="Requests that run together.")] = 32,
    max_wait_ms: Annotated[
        float, typer.Option("--max-wait-ms", min=0.0, max=1_000.0, help="How long one may wait for others.")
    ] = 2.0,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=1, help="Requests that may wait; more are refused.")
    ] = 256,
    home: HomeOption = None,
) -> None:
    """Serve a ranker over gRPC until Ctrl-C or SIGTERM; feed servers name it by home.rank_servers.

    Requests of all feed servers run in batches. Without --model it follows the registry of the home: a promotion is
    loaded beside what serves and takes its place, and no request is dropped. The standard gRPC health check tells
    whether anything serves. int8 and bf16 serve a ranker that lost next to nothing by it when it was trained; another
    one is served in fp32, and the log says why.

    Example: millrace rank-server --address 127.0.0.1:8101
    """
    import msgspec

    from millrace.app.commands.printing import notes, plain
    from millrace.app.commands.serve import start_logging
    from millrace.app.rank_serving import RankServing, serve_rankers
    from millrace.inference.batcher import BatcherConfig
    from millrace.inference.runner_choice import Precision, RunnerName
    from millrace.mixer.config import HomeConfig

    _check_reach(address, trusts_network=trust_network)
    # A folder needs no home: the server may stand on a machine that has none.
    settings = None if model is not None else open_settings(home)
    chosen = HomeConfig() if settings is None else settings.config.home
    serving = RankServing(
        folder=model,
        models_dir=Path() if settings is None else settings.models_dir,
        address=address,
        runner=_choice("runner", runner or chosen.runner, RunnerName),
        precision=_choice("precision", precision or chosen.precision, Precision),
        batcher=BatcherConfig(max_batch=max_batch, max_wait_ms=max_wait_ms, max_queue=max_queue),
    )
    if metrics:
        _check_reach(metrics, trusts_network=trust_network)
        host, _, port = metrics.rpartition(":")
        serving = msgspec.structs.replace(serving, metrics_address=(host.strip("[]"), int(port)))
    start_logging()

    def announce(at: str, name: str) -> None:
        what = name or "nothing yet: promote a ranker (millrace models promote ranker=newest)"
        notes().print(f"Ready: {plain(at)} serves {plain(what)}", markup=False, soft_wrap=True)

    serve_rankers(serving, announce)
    notes().print("[dim]stopped[/]")


def _choice(thing: str, value: str, choices: Any) -> Any:
    """Return a value if it is one of a literal type's."""
    if value not in get_args(choices):
        raise ConfigError(
            thing, value=value, problem="not known", remedy=f"choose one of {', '.join(get_args(choices))}"
        )
    return value


def _check_reach(address: str, *, trusts_network: bool) -> None:
    """Refuse what is no address, and what other machines reach unless that is meant."""
    from millrace.app.http_address import is_loopback
    from millrace.inference.grpc_runner import check_address

    check_address(address)
    host = address.rpartition(":")[0]
    if not trusts_network and not is_loopback(host):
        raise ConfigError(
            "rank server's address",
            value=address,
            problem="reachable from other machines, of which any could ask",
            remedy="use 127.0.0.1; or, in a network of your own, say so with --trust-network",
        )
