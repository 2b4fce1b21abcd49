"""``millrace post`` and ``millrace user``: what the system knows of one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from millrace.app.commands.options import HomeOption, JsonOption, open_settings

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.app.facts import Facts, Person

PostArgument = Annotated[str, typer.Argument(metavar="POST", help="The post's id.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The user's id.")]


def post(post: PostArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print what the system knows of a post: text, author, topics, labels, counts, who engaged, where it is.

    Counts fade with their age, as ranking sees them.

    Example: millrace post p4711
    """
    from rich.markup import escape

    from millrace.app.commands.page import is_right_to_left, shorten
    from millrace.app.commands.printing import out, plain, plain_text, print_json, print_table

    with _facts(home) as (facts, now_ms):
        found = facts.post(post)
    if as_json:
        print_json(found)
        return
    console = out()
    state = "[red]deleted[/]" if found.is_deleted else "live" if "posts" in found.stores else "not live"
    console.print(f"[bold]{escape(plain(found.post_id))}[/]  {state}")
    if found.text:
        text = shorten(plain_text(found.text))
        console.print(text, markup=False, justify="right" if is_right_to_left(text) else None)
    print_table(
        "",
        ("what", "is"),
        _filled(
            ("author", _named(found.author) if found.author is not None else ""),
            ("kind", found.kind),
            ("written", _when(found.created_at_ms, now_ms)),
            ("edited", _when(found.edited_at_ms, now_ms)),
            ("language", found.language),
            ("topics", ", ".join(found.topics)),
            ("labels", ", ".join(found.labels)),
            ("media", ", ".join(found.media)),
            ("sensitive", "yes" if found.is_sensitive else ""),
            ("about the post", found.parent_id or ""),
            ("conversation", found.conversation_id or ""),
            ("in the stores", ", ".join(found.stores)),
            ("engaged", f"{found.n_engagers:,}: {', '.join(map(_named, found.engagers))}" if found.n_engagers else ""),
        ),
    )
    counts = [
        (name, f"{found.counts.get(name, 0.0):,.1f}", f"{found.observed.get(name, 0.0):,.0f}")
        for name in dict.fromkeys((*found.counts, *found.observed))
    ]
    if counts:
        print_table("Counts", ("action", "faded", "totals from elsewhere"), counts)


def user(user: UserArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Print what the system knows of a user: profile, settings, follows, blocks, history, whom they like.

    Example: millrace user u17
    """
    from rich.markup import escape

    from millrace.app.commands.printing import count, out, plain, print_json, print_table

    with _facts(home) as (facts, now_ms):
        found = facts.user(user)
    if as_json:
        print_json(found)
        return
    console = out()
    console.print(f"[bold]{escape(plain(found.user_id))}[/]  {escape(plain(found.name))}")
    if found.bio:
        console.print(plain(found.bio), markup=False)
    print_table(
        "",
        ("what", "is"),
        _filled(
            ("known", _when(found.known_since_ms, now_ms)),
            ("verified", "yes" if found.is_verified else ""),
            ("reads", ", ".join(found.languages)),
            ("interests", ", ".join(found.interests)),
            ("sensitive media", "shown" if found.shows_sensitive else "hidden"),
            ("labels", ", ".join(found.labels)),
            ("follows", f"{found.n_following:,}; followed by {found.n_followers:,}"),
            ("blocks", f"{found.n_blocked:,}; blocked by {found.n_blocked_by:,}"),
            ("mutes", f"{count(found.n_muted, 'account')}, {count(found.n_muted_keywords, 'keyword')}"),
            ("live posts", f"{found.n_live_posts:,}"),
            ("seen, sent", f"{found.n_seen:,}, {found.n_served:,} within their windows"),
            ("last action", _when(found.last_action_ms, now_ms)),
        ),
    )
    if found.actions:
        history = sorted(found.actions.items(), key=lambda item: -item[1])
        print_table(f"History: {count(found.n_actions, 'action')} kept", ("action", "times"), history)
    if found.likes:
        likes = [(_named(liking.author), f"{liking.affinity:.2f}") for liking in found.likes]
        print_table("Likes most", ("author", "affinity"), likes)


@contextmanager
def _facts(home: Path | None) -> Iterator[tuple[Facts, int]]:
    """Give what is known now, and when that is."""
    from millrace.app.commands.folding import folding
    from millrace.app.facts import Facts
    from millrace.app.local_feed import folded_replica
    from millrace.app.wiring import build_actions

    settings = open_settings(home)
    with folding() as on_progress, folded_replica(settings, on_progress) as replica:
        now_ms = replica.clock.now_ms()
        yield Facts(replica, build_actions(settings), now_ms), now_ms


def _named(person: Person) -> str:
    return f"{person.name} (@{person.user_id})" if person.name else person.user_id


def _when(at_ms: int, now_ms: int) -> str:
    from millrace.app.commands.printing import ago

    return ago(now_ms - at_ms) if at_ms else ""


def _filled(*rows: tuple[str, str]) -> Iterable[tuple[str, str]]:
    """Return the rows that say something."""
    return [row for row in rows if row[1]]
