"""Config: TOML to frozen structs, with every problem reported at once and the origin of every value.

*Config* is read once and needs a restart; *params* (`millrace.base.params`) are read per request. A config
is a `msgspec.Struct` of sections, each a frozen struct with a default for every field and bounds in
`msgspec.Meta`. Unknown keys are refused: a misspelt setting that silently keeps its default is worst of all.
"""

from __future__ import annotations

import copy
import difflib
import enum
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from millrace.base.errors import ConfigError

DEFAULT_ORIGIN: Final = "default"

ConfigT = TypeVar("ConfigT", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[ConfigT]):
    """A config and where each of its values comes from.

    Attributes
    ----------
    config
        The validated struct.
    origin_by_key
        Dotted key to origin (a file's name, ``"environment"``, ``"command line"``) for every value that
        was set; every other one has its default.
    """

    config: ConfigT
    origin_by_key: dict[str, str]

    def origin(self, key: str) -> str:
        """Return where the value of a dotted key comes from."""
        return self.origin_by_key.get(key, DEFAULT_ORIGIN)


@dataclass(frozen=True, slots=True)
class Layer:
    """Values from one place; later layers win over earlier ones.

    Parameters
    ----------
    origin
        What to call the place in messages and in ``millrace config show``.
    table
        Nested tables, as TOML gives them.
    """

    origin: str
    table: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One effective value, for display.

    Attributes
    ----------
    key
        Dotted: ``"server.port"``.
    value
        As the config holds it.
    doc
        The field's description; empty if it has none.
    """

    key: str
    value: object
    doc: str


def read_toml(path: Path) -> Layer:
    """Return a TOML file as a layer named after the file.

    Raises
    ------
    ConfigError
        If it cannot be read or is not TOML.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            "config file",
            value=str(path),
            problem=f"cannot be read ({error.strerror})",
            remedy="check the path",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            "config file", value=str(path), problem=f"not valid TOML ({error})", remedy="correct that line"
        ) from error
    return Layer(path.name, table)


def from_pairs(origin: str, pairs: Iterable[tuple[str, str]]) -> Layer:
    """Return a layer from dotted keys and values in TOML notation (bare words are taken as text).

    Examples
    --------
    >>> from_pairs("command line", [("server.port", "9000"), ("server.host", "localhost")]).table
    {'server': {'port': 9000, 'host': 'localhost'}}
    """
    table: dict[str, Any] = {}
    for key, text in pairs:
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        *parents, last = key.split(".")
        place = table
        for parent in parents:
            below = place.setdefault(parent, {})
            place = below if isinstance(below, dict) else {}
        place[last] = value
    return Layer(origin, table)


def load(
    schema: type[ConfigT],
    layers: Iterable[Layer],
    check: Callable[[ConfigT], Iterable[str]] = lambda _config: (),
) -> Loaded[ConfigT]:
    """Return the config that the layers add up to.

    Parameters
    ----------
    schema
        The config's type.
    layers
        Later ones win.
    check
        Further problems of a config. Where values were refused it gets those that were not, so that its problems
        are reported together with the others.

    Raises
    ------
    ConfigError
        With every problem of every layer in ``problems``: unknown keys (and the nearest known one), values
        of a wrong type or out of bounds, and combinations that a section refuses.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    problems: list[str] = []
    for layer in layers:
        _take(schema, layer.table, "", layer.origin, values, origins, problems)
    config = _build(schema, values, "", problems)
    if config is not None:
        problems.extend(check(config))
    if problems or config is None:
        raise ConfigError(
            "config",
            value=f"{len(problems)} problem{'s' if len(problems) > 1 else ''}",
            problem=" | ".join(problems),
            remedy="correct them; `millrace config show` lists all keys",
            problems=tuple(problems),
        )
    return Loaded(config, origins)


def entries(config: msgspec.Struct, prefix: str = "") -> Iterator[Entry]:
    """Yield every effective value of a config in order of declaration, sections flattened to dotted keys."""
    hints = get_type_hints(type(config), include_extras=True)
    for field in msgspec.structs.fields(config):
        key, value = prefix + field.name, getattr(config, field.name)
        if isinstance(value, msgspec.Struct):
            yield from entries(value, key + ".")
        elif isinstance(value, dict) and value:
            yield from _table_entries(key, value)
        else:
            yield Entry(key, value, _doc(hints[field.name]))


def _table_entries(prefix: str, table: Mapping[str, object]) -> Iterator[Entry]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _table_entries(f"{prefix}.{name}", value)
        else:
            yield Entry(f"{prefix}.{name}", value, "")


def _doc(hint: Any) -> str:
    found = (meta.description for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta))
    return next((text for text in found if text), "") if get_origin(hint) is Annotated else ""


def _section(hint: Any) -> type[msgspec.Struct] | None:
    """Return the struct type of a section's field, or None for a plain value."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return bare if isinstance(bare, type) and issubclass(bare, msgspec.Struct) else None


def _item_hint(hint: Any) -> Any:
    """Return the type of a mapping's values, or None if the field is not a mapping."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_args(bare)[1] if get_origin(bare) is dict else None


def _choices(hint: Any) -> Iterator[object]:
    """Yield the values that a type spells out."""
    if get_origin(hint) is Literal:
        yield from get_args(hint)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from (member.value for member in hint)
    else:
        for inner in get_args(hint):
            yield from _choices(inner)


def _take(
    schema: type[msgspec.Struct],
    table: Mapping[str, Any],
    prefix: str,
    origin: str,
    values: dict[str, Any],
    origins: dict[str, str],
    problems: list[str],
) -> None:
    """Lay one layer's table over ``values``, checking every leaf by itself."""
    hints = get_type_hints(schema, include_extras=True)
    known = {field.name for field in msgspec.structs.fields(schema)}
    for name, value in table.items():
        key = prefix + name
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known here: {', '.join(sorted(known))}"
            problems.append(f"config key {key} ({origin}): not known; {hint}")
            continue
        section = _section(hints[name])
        if section is not None:
            if isinstance(value, dict):
                _take(section, value, key + ".", origin, values.setdefault(name, {}), origins, problems)
            else:
                problems.append(f"config key {key} {value!r} ({origin}): not a table; write [{key}]")
            continue
        item_hint = _item_hint(hints[name])
        if item_hint is not None and isinstance(value, dict):
            # Entries are laid over the default's, one by one, as keys of a section are.
            place = values.setdefault(name, copy.deepcopy(getattr(schema(), name)))
            _take_table(value, item_hint, place, key, origin, origins, problems)
        else:
            _take_value(value, hints[name], values, name, key, origin, origins, problems)


def _take_table(
    table: Mapping[str, Any],
    item_hint: Any,
    place: dict[str, Any],
    key: str,
    origin: str,
    origins: dict[str, str],
    problems: list[str],
) -> None:
    """Lay a table of a mapping over ``place``; a mapping of mappings (profiles) is a table of tables."""
    inner_hint = _item_hint(item_hint)
    if inner_hint is None:
        # Dotted keys in TOML nest; a mapping of dotted names (params) is flat.
        for name, item in _flatten(table):
            _take_value(item, item_hint, place, name, f"{key}.{name}", origin, origins, problems)
        return
    for name, item in table.items():
        if isinstance(item, dict):
            _take_table(item, inner_hint, place.setdefault(name, {}), f"{key}.{name}", origin, origins, problems)
        else:
            problems.append(f"config key {key}.{name} {item!r} ({origin}): not a table; write [{key}.{name}]")


def _take_value(
    value: object,
    hint: Any,
    place: dict[str, Any],
    name: str,
    key: str,
    origin: str,
    origins: dict[str, str],
    problems: list[str],
) -> None:
    try:
        place[name] = msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        problems.append(f"config key {key} {value!r} ({origin}): {_plain(error, hint)}")
    else:
        origins[key] = origin


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _build(schema: type[ConfigT], values: Mapping[str, Any], prefix: str, problems: list[str]) -> ConfigT | None:
    hints = get_type_hints(schema, include_extras=True)
    made: dict[str, Any] = {}
    for name, value in values.items():
        section = _section(hints[name])
        made[name] = value if section is None else _build(section, value, f"{prefix}{name}.", problems)
    if any(made[name] is None and _section(hints[name]) is not None for name in made):
        return None
    try:
        return schema(**made)
    except (ValueError, TypeError, ConfigError) as error:  # a __post_init__ that relates fields to each other
        problems.append(f"config section {prefix.rstrip('.') or 'top level'}: {error}")
        return None


def _plain(error: msgspec.ValidationError, hint: Any) -> str:
    """Return msgspec's message as a clause: ``expected an int >= 1``, ``expected one of 'a', 'b'``."""
    text = str(error)
    if text.startswith("Invalid enum value") and (choices := list(_choices(hint))):
        return f"expected one of {', '.join(map(repr, choices))}"
    return text[:1].lower() + text[1:].replace("`", "")
