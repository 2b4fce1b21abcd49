"""``millrace editorial``: the pool of posts that the operator picked: looking at it, adding, removing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings

if TYPE_CHECKING:
    from millrace.app.settings import Settings

app = typer.Typer(help="Posts that you picked for everybody's feed.", no_args_is_help=True)

PostsArgument = Annotated[list[str], typer.Argument(metavar="POST...", help="Ids of posts.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept in the log.", show_default=False)]

_SHOWN_CHARS = 60


@app.callback()
def _group() -> None:
    pass


@app.command("list")
def list_picks(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the pool, the newest pick first.

    Works with and without a running server: this process reads the newest checkpoint and the log after it.

    Example: millrace editorial list
    """
    from datetime import UTC, datetime

    from millrace.app.commands.printing import ago, out, print_json, print_table
    from millrace.app.wiring import build_clock

    now_ms = build_clock().now_ms()
    picks = _picks(open_settings(home), now_ms)
    if as_json:
        print_json({"n_picks": len(picks), "picks": picks})
        return
    if not picks:
        out().print("The editorial pool is empty.")
        return
    rows = [
        (
            pick["post_id"] or "(not known)",
            ago(now_ms - pick["picked_at_ms"]),
            datetime.fromtimestamp(pick["until_ms"] / 1000, UTC).strftime("%Y-%m-%d %H:%M") if pick["until_ms"] else "",
            pick["author_id"] or "",
            (pick["text"] or "")[:_SHOWN_CHARS],
        )
        for pick in picks
    ]
    print_table("Editorial pool, newest pick first (times in UTC)", ("post", "picked", "until", "author", "text"), rows)


@app.command()
def add(
    posts: PostsArgument,
    span: Annotated[
        str | None, typer.Option("--for", metavar="SPAN", help="How long: 24h, 90m, 7d; default: while they live.")
    ] = None,
    note: NoteOption = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put posts into the pool, or renew their time.

    Viewers get them as candidates: filters and ranking decide as for any other post. The pool holds 1,024 posts; the
    oldest pick leaves.

    Example: millrace editorial add p17 p18 --for 24h
    """
    from millrace.app.commands.import_data import parse_span
    from millrace.app.wiring import build_clock

    now_ms = build_clock().now_ms()
    until_ms = None if span is None else now_ms + parse_span(span, "--for")
    _send(home, now_ms, [{"post_id": post, "until_ms": until_ms, "note": note} for post in posts], "picked", as_json)


@app.command()
def remove(posts: PostsArgument, note: NoteOption = "", home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Take posts out of the pool; the posts themselves stay.

    Example: millrace editorial remove p17
    """
    from millrace.app.wiring import build_clock

    picks = [{"post_id": post, "is_picked": False, "note": note} for post in posts]
    _send(home, build_clock().now_ms(), picks, "taken out", as_json)


def _send(home: Any, now_ms: int, picks: list[dict[str, Any]], done: str, as_json: bool) -> None:
    """Bring picks through the door and say what became of each; ends with code 1 if any was refused."""
    import msgspec

    from millrace.app.commands.printing import count, notes, out, plain, print_json
    from millrace.app.wiring import build_codec, build_collector, build_log

    settings = open_settings(home)
    log = build_log(settings)
    collector = build_collector(settings, log, build_codec(settings))
    lines = [
        msgspec.json.encode({"event_time_ms": now_ms, "payload": {"type": "EditorialPicked", **pick}}) for pick in picks
    ]
    receipt = collector.submit_json(lines, "editorial")
    log.close()
    refused = [
        {"post_id": pick["post_id"], "error": result.error}
        for pick, result in zip(picks, receipt, strict=True)
        if result.status == "refused"
    ]
    n_done = len(picks) - len(refused)
    if as_json:
        print_json({"n_done": n_done, "refused": refused})
    else:
        out().print(f"{count(n_done, 'post')} {done}")
        for refusal in refused:
            notes().print(f"{plain(refusal['post_id'])}: {plain(refusal['error'])}", markup=False)
    if refused:
        raise typer.Exit(1)


def _picks(settings: Settings, now_ms: int) -> list[dict[str, Any]]:
    """Return the pool with what is known of its posts."""
    from millrace.app.wiring import build_log, build_replica
    from millrace.stores.editorial import FOR_EVER

    log = build_log(settings)
    replica = build_replica(settings, log)
    replica.restore()
    replica.catch_up()
    picks = replica.state.editorial.picks(now_ms)
    posts = replica.content.posts(picks.post_ids, replica.position) if replica.content is not None else []
    replica.close()
    log.close()
    return [
        {
            "post_id": post.post_id if post else None,
            "author_id": post.author_id if post else None,
            "text": post.text if post else None,
            "picked_at_ms": picked_ms,
            "until_ms": None if until_ms == FOR_EVER else until_ms,
        }
        for post, picked_ms, until_ms in zip(posts, picks.picked_ms.tolist(), picks.until_ms.tolist(), strict=True)
    ]
