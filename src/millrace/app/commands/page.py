"""A feed's page in a terminal: author, age, text, why."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.text import Text

from millrace.app.commands.printing import age, count, plain, plain_text

if TYPE_CHECKING:
    from millrace.mixer.feed import FeedPost, FeedResponse, Why
    from millrace.mixer.trace_answers import RequestTrace

_MAX_TEXT_CHARS: Final = 280
_MAX_LINES: Final = 4
_VERBS: Final = {"reply": "replied", "repost": "reposted", "quote": "quoted"}
_SHOWN_PARTS: Final = 3
_ICONS: Final = {"image": "▣ picture", "video": "▶ video", "audio": "♪ audio"}


def made_at_ms(page: FeedResponse) -> int:
    """Return the event time at which a page was made: its ages are relative to it."""
    return round(datetime.fromisoformat(page.generated_at).timestamp() * 1000)


def print_page(
    console: Console,
    page: FeedResponse,
    now_ms: int,
    max_posts: int | None = None,
    title: str = "For you",
    *,
    with_scores: bool = False,
    trace: RequestTrace | None = None,
) -> None:
    """Print a page, best post first.

    Parameters
    ----------
    console
        Where to.
    page
        The API's answer.
    now_ms
        Ages are relative to it.
    max_posts
        Show only so many, and say how many more there are.
    title
        What kind of page it is.
    with_scores
        Also tell under each post which sources found it and how its score came about.
    trace
        How it was made, where that is known: of an empty page it tells what took the posts out.
    """
    posts = page.posts if max_posts is None else page.posts[:max_posts]
    console.print()
    console.print(Rule(f"[bold]{escape(title)}[/], {escape(plain(page.viewer_id))}", style="cyan", align="left"))
    for place, post in enumerate(posts, start=1):
        console.print(_card(place, post, now_ms))
        if with_scores and post.why is not None:
            console.print(Padding(Text(score_line(post, post.why), style="dim"), (0, 0, 0, 4)))
    n_more = len(page.posts) - len(posts)
    if n_more > 0:
        console.print(Padding(f"[dim]… and {n_more} more on this page[/]", (1, 0, 0, 4)))
    if not posts:
        console.print(f"[dim]Nothing to show: {nothing_words(trace)}.[/]", soft_wrap=True)
    console.print(Rule(_footer(page), style="cyan", align="left"))
    console.print(f"[dim]request {escape(plain(page.request_id))}[/]", soft_wrap=True)  # whole, to be copied


def nothing_words(trace: RequestTrace | None) -> str:
    """Return why a page is empty: ``"all 65 candidates were left out: seen 32, age 12"``, what took most first."""
    if trace is None:
        return "no live posts that this viewer may see"
    if not trace.n_candidates:
        return "no source found a live post that this viewer may see and has not had"
    dropping = sorted((f for f in trace.filters if f.n_dropped), key=lambda f: -f.n_dropped)
    n_dropped = sum(f.n_dropped for f in dropping)
    many = f"all {trace.n_candidates:,} candidates were" if trace.n_candidates > 1 else "the only candidate was"
    if n_dropped < trace.n_candidates:
        many = f"of {count(trace.n_candidates, 'candidate')} {n_dropped:,} were"
    by_whom = ", ".join(f"{f.name} {f.n_dropped:,}" for f in dropping)
    return f"{many} left out{': ' if by_whom else ''}{by_whom}"


def _card(place: int, post: FeedPost, now_ms: int) -> Group:
    head = Text()
    head.append(f"{place:>2}  ", style="dim")
    head.append(plain(post.author.name), style="bold")
    if post.author.name != post.author.user_id:
        head.append(f"  @{plain(post.author.user_id)}", style="dim")
    head.append(f"  ·  {age(now_ms - post.created_at_ms)}", style="dim")
    if _VERBS.get(post.kind):
        head.append(f"  ·  {_VERBS[post.kind]}", style="dim")
    if post.language:
        head.append(f"  ·  {plain(post.language)}", style="dim")
    head.append(f"  ·  post {plain(post.post_id)}", style="dim")
    parts: list[Text | Padding] = [Text(), head]
    if post.text:
        parts.append(Padding(_body(post.text), (0, 0, 0, 4)))
    if post.parent is not None:
        byline = Text(f"{plain(post.parent.author.name)}  ·  {age(now_ms - post.parent.created_at_ms)}", style="dim")
        parts.append(Padding(byline, (0, 0, 0, 6)))
        parts.append(Padding(_body(post.parent.text), (0, 0, 0, 6)))
    icons = [_ICONS[item.kind] for item in post.media if item.kind in _ICONS]
    why = Text(plain(post.reason), style="green")
    if icons:
        why.append(f"   {'  '.join(icons)}", style="magenta")
    return Group(*parts, Padding(why, (0, 0, 0, 4)))


def _body(text: str) -> Text:
    return Text(shorten(plain_text(text)), justify="right" if is_right_to_left(text) else None)


def _footer(page: FeedResponse) -> str:
    info = page.debug_info
    parts = [count(len(page.posts), "post")]
    if info is not None:
        parts.append(f"out of {count(info.candidate_count, 'candidate')}")
    if page.degraded:
        parts.append("[yellow]degraded[/]")
    if page.end_of_feed:
        parts.append("end of feed")
    return " · ".join(parts)


def score_line(post: FeedPost, why: Why) -> str:
    """Return how a score came about: sources, the largest parts of the value, and the steps that changed anything."""
    parts = (f"{name} {action.contribution:+.4f}" for name, action in list(why.actions.items())[:_SHOWN_PARTS])
    steps = (
        f"{'+' if step.kind == 'add' else 'x'}{step.amount:.3g} {step.name}"
        for step in why.steps
        if changes_score(step.kind, step.amount)
    )
    said = (", ".join(post.sources), ", ".join(parts), ", ".join(steps))
    return plain(f"score {post.score:.5f}: " + "; ".join(filter(None, said)))


def changes_score(kind: str, amount: float) -> bool:
    """Whether a step of the value model does anything: x1 and +0 do not."""
    return amount != (0.0 if kind == "add" else 1.0)


def shorten(text: str) -> str:
    """Return a text of a few lines at most, cut at a word where there are words."""
    lines = [line for line in text.splitlines() if line.strip()][:_MAX_LINES]
    flat = "\n".join(lines)
    if len(flat) <= _MAX_TEXT_CHARS:
        return flat
    cut = flat[:_MAX_TEXT_CHARS]
    head, space, _ = cut.rpartition(" ")
    return (head if space and len(head) > _MAX_TEXT_CHARS // 2 else cut) + " …"


def is_right_to_left(text: str) -> bool:
    """Whether a text's first letter belongs to a script written from right to left."""
    first = next((char for char in text if char.isalpha()), "")
    return bool(first) and unicodedata.bidirectional(first) in {"R", "AL"}
