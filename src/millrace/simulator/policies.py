"""`Policy`: a version of the feed that people are given in a run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta, Struct

from millrace.base.errors import ConfigError

FeedName = Literal[
    "home",
    "random",
    "chronological",
    "popular",
    "oracle",
    "oracle_all",
    "reversed",
    "constant",
    "stale",
    "over_filtered",
    "unfiltered",
    "small_creators",
    "shuffled",
]
FEEDS: Final[tuple[str, ...]] = get_args(FeedName)


class Harm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A planted harm: in one language, everything is done less (or more) readily."""

    language: str
    readiness: Annotated[float, Meta(gt=0, le=2)]


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the feed.

    Attributes
    ----------
    name
        What it is called in tables.
    feed
        Which stages it has: ``home`` is the home feed as it is.
    settings
        What its config and params have that differs, by dotted key: ``{"params.value.weight_like": 2.0}``.
    readiness
        A planted effect: under this policy everything is done so much more readily.
    harm
        A planted harm in one slice.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    feed: FeedName = "home"
    settings: dict[str, object] = {}
    readiness: Annotated[float, Meta(gt=0, le=2)] = 1.0
    harm: Harm | None = None


def parse_policy(text: str) -> Policy:
    """Return the policy of an option ``NAME``, ``NAME=FEED``, ``NAME=FEED,key=value,…`` or ``NAME=file.toml``.

    Keys are those of ``--set`` (``params.value.weight_like=2``, ``home.page_size=20``), and ``readiness``.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    name, _, what = text.partition("=")
    what = what or name
    if what.endswith(".toml"):
        return _from_file(name, Path(what))
    feed, *pairs = what.split(",")
    if feed not in FEEDS:
        raise ConfigError(
            "policy", value=text, problem=f"no feed is called {feed!r}", remedy=f"use one of {', '.join(FEEDS)}"
        )
    settings: dict[str, object] = {}
    for pair in pairs:
        key, has_value, value = pair.partition("=")
        if not has_value:
            raise ConfigError("policy", value=text, problem=f"{pair!r} has no value", remedy="write key=value")
        settings[key] = value
    readiness = settings.pop("readiness", "1")
    try:
        ready = float(str(readiness))
    except ValueError:
        raise ConfigError("policy", value=text, problem="readiness is no number", remedy="write 1.01") from None
    return _checked({"name": name, "feed": feed, "readiness": ready, "settings": settings}, text)


def _from_file(name: str, path: Path) -> Policy:
    if not path.is_file():
        raise ConfigError("policy", value=str(path), problem="no such file", remedy="give the path of a TOML file")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("policy", value=str(path), problem=f"not TOML ({error})", remedy="mend the file") from error
    return _checked({"name": name, **values}, str(path))


def _checked(values: dict[str, object], text: str) -> Policy:
    try:
        return msgspec.convert(values, Policy)
    except msgspec.ValidationError as error:
        raise ConfigError(
            "policy", value=text, problem=str(error), remedy="see `millrace simulate run --help`"
        ) from error
