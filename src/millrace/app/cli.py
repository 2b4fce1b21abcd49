"""``millrace``: the command line. Lists the commands; each lives in `millrace.app.commands`.

Errors are lines on stderr. Exit code 2: the command or the config is wrong; 1: anything else that failed.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer
import typer.main

from millrace import __version__
from millrace.app.commands import (
    backup,
    bench,
    checkpoint,
    config,
    dead_letters,
    demo,
    distill,
    doctor,
    editorial,
    evaluate,
    events,
    flywheel,
    following,
    import_data,
    ingest,
    init,
    keys,
    look,
    models,
    pipeline,
    rank_server,
    serve,
    simulate,
    sql,
    timeline,
    token,
    train,
    warehouse,
    why,
)
from millrace.base.errors import ConfigError, MillraceError

USAGE_ERROR: Final = 2
FAILURE: Final = 1
INTERRUPTED: Final = 130

_UsageError: Any = typer.BadParameter.__mro__[2]
"""The base of click's usage errors, wherever this version of typer keeps click."""

app = typer.Typer(
    name="millrace",
    help="A stream of posts, follows and actions in; a ranked, explainable For You feed out.",
    epilog="Start with: millrace demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_START: Final = "Start"
_FEED: Final = "Feed"
_DATA: Final = "Data in and out"
_JUDGE: Final = "Judge"
_CARE: Final = "Care"

app.command("init", rich_help_panel=_START)(init.init)
app.command("demo", rich_help_panel=_START)(demo.demo)
app.command("serve", rich_help_panel=_START)(serve.serve)
app.command("rank-server", rich_help_panel=_START)(rank_server.rank_server)
app.command("timeline", rich_help_panel=_FEED)(timeline.timeline)
app.command("following", rich_help_panel=_FEED)(following.following)
app.command("why", rich_help_panel=_FEED)(why.why)
app.command("post", rich_help_panel=_FEED)(look.post)
app.command("user", rich_help_panel=_FEED)(look.user)
app.command("eval", rich_help_panel=_FEED)(evaluate.evaluate)
app.add_typer(pipeline.app, name="pipeline", rich_help_panel=_FEED)
app.add_typer(editorial.app, name="editorial", rich_help_panel=_FEED)
app.command("ingest", rich_help_panel=_DATA)(ingest.ingest)
app.command("import", rich_help_panel=_DATA)(import_data.import_data)
app.add_typer(events.app, name="events", rich_help_panel=_DATA)
app.add_typer(dead_letters.app, name="dead-letters", rich_help_panel=_DATA)
app.add_typer(warehouse.app, name="warehouse", rich_help_panel=_DATA)
app.command("sql", rich_help_panel=_DATA)(sql.sql)
app.add_typer(train.app, name="train", rich_help_panel=_JUDGE)
app.command("distill", rich_help_panel=_JUDGE)(distill.distill)
app.add_typer(flywheel.app, name="flywheel", rich_help_panel=_JUDGE)
app.add_typer(simulate.app, name="simulate", rich_help_panel=_JUDGE)
app.add_typer(models.app, name="models", rich_help_panel=_CARE)
app.command("token", rich_help_panel=_CARE)(token.token)
app.add_typer(keys.app, name="keys", rich_help_panel=_CARE)
app.add_typer(config.app, name="config", rich_help_panel=_CARE)
app.command("checkpoint", rich_help_panel=_CARE)(checkpoint.checkpoint)
app.command("backup", rich_help_panel=_CARE)(backup.backup)
app.command("restore", rich_help_panel=_CARE)(backup.restore)
app.command("doctor", rich_help_panel=_CARE)(doctor.doctor)
app.command("bench", rich_help_panel=_CARE, add_help_option=False, context_settings=bench.PASSED_ON)(bench.bench)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"millrace {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    pass


@functools.cache
def command_line() -> Any:
    """Return the tree of all commands; building it takes as long as a short command does."""
    return typer.main.get_command(app)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises what a user can cause."""
    try:
        code = command_line()(args=list(argv) or ["--help"], prog_name="millrace", standalone_mode=False)
    except ConfigError as error:
        _complain(*error.problems)
        return USAGE_ERROR
    except MillraceError as error:
        _complain(str(error))
        return FAILURE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has left; give Python nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except OSError as error:
        _complain(f"{error.filename or 'system'}: {error.strerror or error}; {_remedy(error)}")
        return FAILURE
    except _UsageError as error:
        if type(error).__name__ != "NoArgsIsHelpError":  # for that one the help has been printed
            # Before an enum's complaint stands the type of the exception.
            _complain(error.format_message().replace(": Value error, ", ": "))
        return USAGE_ERROR
    except ValueError as error:  # also texts that are no UTF-8, no path, no number
        logging.getLogger(__name__).debug("a value could not be used", exc_info=True)
        text = " ".join(str(error).split()) or type(error).__name__
        _complain(f"a value cannot be used: {text}; check the options, and the files that the command reads")
        return USAGE_ERROR
    return code if isinstance(code, int) else 0


def main() -> None:
    """Entry point of the ``millrace`` script."""
    sys.exit(run(sys.argv[1:]))


def _remedy(error: OSError) -> str:
    remedies = {
        errno.ENOSPC: "free disk space, then try again",
        errno.EDQUOT: "free disk space or raise the quota, then try again",
        errno.ENOENT: "check the path",
        errno.ENOTDIR: "check the path: a file stands where a folder belongs",
        errno.EEXIST: "check the path: a file stands where a folder belongs",
        errno.EISDIR: "check the path: a folder stands where a file belongs",
        errno.EACCES: "check the permissions of the path and of its folder",
        errno.EPERM: "check the permissions of the path and of its folder",
        errno.EROFS: "the disk is mounted read-only; use another one",
        errno.EADDRINUSE: "end the program that uses the port, or set server.port",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
    }
    return remedies.get(error.errno or 0, "check the disk and the permissions; `millrace doctor` looks at the home")


def _complain(*lines: str) -> None:
    from millrace.app.commands.printing import plain

    for line in lines:
        typer.echo(f"millrace: {plain(line)}", err=True)
