"""The ``millrace.toml`` that ``millrace init`` writes: every key, with its default and what it means."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Iterator

import msgspec

from millrace.app.settings import MillraceConfig
from millrace.base.config import Entry, entries

_HEAD = """\
# Millrace: the config of this home folder. Every key stands here with its default, commented out.
# Unknown keys are refused. `millrace config show` prints what is in effect, and why.
# Also: MILLRACE__SERVER__PORT=9000 in the environment, or --set server.port=9000 on the command line.
"""
_PARAMS = """
# Params are read per request. `millrace pipeline show` lists them with defaults and bounds.
# A set of params under a name of your own is a table [profiles.NAME]; [home] value_profile chooses it.
# Both take effect as soon as this file is saved, without a restart; what stands under [params] wins.
[params]
"""


@functools.cache
def config_template() -> str:
    """Return the file's text; loading it gives the defaults."""
    config = MillraceConfig()
    parts = [_HEAD]
    for field in msgspec.structs.fields(MillraceConfig):
        section = getattr(config, field.name)
        if not isinstance(section, msgspec.Struct):
            continue
        about = re.sub(r"^``.*``: |^Section ``.*``\.$", "", (type(section).__doc__ or "").strip().partition("\n")[0])
        parts.append(f"\n# {about[:1].upper()}{about[1:]}\n[{field.name}]\n" if about else f"\n[{field.name}]\n")
        parts.extend(_lines(field.name, entries(section)))
    parts.append(_PARAMS)
    return "".join(parts)


def toml_key(section: str, key: str) -> str:
    """Return a key within its section: names of params and of languages are keys of one table, quoted as one."""
    if section == "profiles":
        profile, _, param = key.partition(".")
        return f'{profile}."{param}"' if param else profile
    return f'"{key}"' if section == "params" else key


def toml_value(value: object) -> str:
    """Return a config value in TOML notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {toml_value(item)}' for name, item in value.items()) + "}"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return repr(value)


def _lines(section: str, found: Iterator[Entry]) -> Iterator[str]:
    for entry in found:
        if entry.doc:
            yield from (f"# {line}\n" for line in textwrap.wrap(entry.doc, 100))
        if entry.value is None:
            yield f"# {toml_key(section, entry.key)} =\n"
        else:
            yield f"# {toml_key(section, entry.key)} = {toml_value(entry.value)}\n"
