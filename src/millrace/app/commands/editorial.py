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
_POLLED = 1_000


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
    from millrace.app.wiring import build_event_clock

    settings = open_settings(home)
    now_ms = build_event_clock(settings).now_ms()
    picks = _picks(settings, now_ms)
    if as_json:
        print_json({"n_picks": len(picks), "picks": picks})
        return
    if not picks:
        out().print("The editorial pool is empty.")
        return
    rows = [
        (
            (pick["post_id"] or "(its id is not in the log any more)") + ("" if pick["is_known"] else " (not known)"),
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
    from millrace.app.wiring import build_event_clock

    now_ms = build_event_clock(open_settings(home)).now_ms()
    until_ms = None if span is None else now_ms + parse_span(span, "--for")
    _send(home, now_ms, [{"post_id": post, "until_ms": until_ms, "note": note} for post in posts], "picked", as_json)


@app.command()
def remove(posts: PostsArgument, note: NoteOption = "", home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Take posts out of the pool; the posts themselves stay.

    Example: millrace editorial remove p17
    """
    from millrace.app.wiring import build_event_clock

    picks = [{"post_id": post, "is_picked": False, "note": note} for post in posts]
    _send(home, build_event_clock(open_settings(home)).now_ms(), picks, "taken out", as_json)


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
    gone = {refusal["post_id"] for refusal in refused}
    unknown = _unknown(settings, [p["post_id"] for p in picks if p.get("is_picked", True) and p["post_id"] not in gone])
    if as_json:
        print_json({"n_done": n_done, "refused": refused, "unknown": unknown})
    else:
        out().print(f"{count(n_done, 'post')} {done}")
        for post in unknown:
            text = f"{plain(post)}: not known; it comes into pages if such a post is made, or take it out again"
            notes().print(text, style="yellow", markup=False, soft_wrap=True)
        for refusal in refused:
            notes().print(f"{plain(refusal['post_id'])}: {plain(refusal['error'])}", markup=False)
    if refused:
        raise typer.Exit(1)


def _unknown(settings: Settings, posts: list[str]) -> list[str]:
    """Return those of some posts that are not known."""
    import numpy as np

    from millrace.app.local_feed import folded_replica
    from millrace.base.ids import IdKind, normalise_id

    if not posts:
        return []
    with folded_replica(settings) as replica:
        if replica.content is None:
            return []
        hasher = replica.state.hasher
        ids = np.array([hasher.one(IdKind.POST, normalise_id(post, "post id")) for post in posts], dtype=np.int64)
        found = replica.content.posts(ids, replica.position)
    return [post for post, content in zip(posts, found, strict=True) if content is None]


def _picks(settings: Settings, now_ms: int) -> list[dict[str, Any]]:
    """Return the pool with what is known of its posts."""
    import numpy as np

    from millrace.app.local_feed import folded_replica
    from millrace.stores.editorial import FOR_EVER

    with folded_replica(settings) as replica:
        picks = replica.state.editorial.picks(now_ms)
        posts = replica.content.posts(picks.post_ids, replica.position) if replica.content is not None else []
    is_unknown = np.array([post is None for post in posts], dtype=np.bool_)
    id_of = _picked_ids(settings, set(picks.post_ids[is_unknown].tolist()))
    return [
        {
            "post_id": post.post_id if post else id_of.get(key),
            "is_known": post is not None,
            "author_id": post.author_id if post else None,
            "text": post.text if post else None,
            "picked_at_ms": picked_ms,
            "until_ms": None if until_ms == FOR_EVER else until_ms,
        }
        for key, post, picked_ms, until_ms in zip(
            picks.post_ids.tolist(), posts, picks.picked_ms.tolist(), picks.until_ms.tolist(), strict=True
        )
    ]


def _picked_ids(settings: Settings, wanted: set[int]) -> dict[int, str]:
    """Return the outside ids of picked posts that nobody has heard of: only the picks in the log name them."""
    from millrace.app.wiring import build_codec, build_log
    from millrace.base.ids import IdHasher, IdKind
    from millrace.events.content_events import EditorialPicked

    if not wanted:
        return {}
    codec, hasher, log = build_codec(settings), IdHasher(), build_log(settings)
    topic = codec.registry.by_name(EditorialPicked.__name__).topic
    consumer = log.subscribe("editorial-list", topics=[topic], start=log.begin())
    id_of: dict[int, str] = {}
    while records := consumer.poll(_POLLED).data:
        for data in records:
            payload = codec.decode(data).payload
            if isinstance(payload, EditorialPicked):
                id_of[hasher.one(IdKind.POST, payload.post_id)] = payload.post_id
    consumer.close()
    log.close()
    return {key: post for key, post in id_of.items() if key in wanted}
