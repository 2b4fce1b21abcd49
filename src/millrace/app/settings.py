"""Settings: one home folder and one effective config, composed of every room's section, origins known.

Precedence, lowest to highest: default < ``millrace.toml`` < environment (``MILLRACE__SERVER__PORT=9000``) <
command line (``--set server.port=9000``). Only this module and the CLI know that an environment exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from millrace.app.config import AuthConfig, ClaimsConfig, EventsConfig, LimitsConfig, ServerConfig, TracesConfig
from millrace.base.actions import ActionSpace
from millrace.base.config import Layer, from_pairs, load, read_toml
from millrace.base.errors import ConfigError
from millrace.content.config import ContentConfig
from millrace.flywheel.config import FlywheelConfig
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.warehouse_config import WarehouseConfig
from millrace.mixer.config import HomeConfig
from millrace.simulator.config import WorldConfig
from millrace.stores.config import StoresConfig
from millrace.stores.content_store_config import ContentStoreConfig
from millrace.stores.replica_config import ReplicaConfig
from millrace.stream.config import LogConfig
from millrace.stream.traffic import TrafficConfig

CONFIG_NAME: Final = "millrace.toml"
HOME_VARIABLE: Final = "MILLRACE_HOME"
ENV_PREFIX: Final = "MILLRACE__"

ParamValue = bool | int | float


class MillraceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole config: one section a room."""

    server: ServerConfig = ServerConfig()
    auth: AuthConfig = AuthConfig()
    events: EventsConfig = EventsConfig()
    log: LogConfig = LogConfig()
    stores: StoresConfig = StoresConfig()
    content: ContentConfig = ContentConfig()
    content_store: ContentStoreConfig = ContentStoreConfig()
    replica: ReplicaConfig = ReplicaConfig()
    home: HomeConfig = HomeConfig()
    claims: ClaimsConfig = ClaimsConfig()
    limits: LimitsConfig = LimitsConfig()
    traffic: TrafficConfig = TrafficConfig()
    traces: TracesConfig = TracesConfig()
    flywheel: FlywheelConfig = FlywheelConfig()
    warehouse: WarehouseConfig = WarehouseConfig()
    near_line: NearLineConfig = NearLineConfig()
    guards: GuardsConfig = GuardsConfig()
    world: WorldConfig = WorldConfig()
    profiles: Annotated[
        dict[str, dict[str, ParamValue]],
        Meta(description="Value profiles of your own: params by name; [home] value_profile chooses one"),
    ] = {}
    params: Annotated[
        dict[str, ParamValue], Meta(description="Params that differ from their defaults; see `pipeline show`")
    ] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """A home folder, its effective config, and where its files are. Picklable: worker processes get it whole.

    Attributes
    ----------
    home
        Absolute path of the home folder.
    config
        The effective config.
    origin_by_key
        Where each value that is not a default comes from.
    layers_above
        What environment and command line say: they win over the file, however often it is read again.
    """

    home: Path
    config: MillraceConfig = field(default_factory=MillraceConfig)
    origin_by_key: Mapping[str, str] = field(default_factory=dict)
    layers_above: tuple[Layer, ...] = field(default=(), repr=False)

    @property
    def config_path(self) -> Path:
        """The home's TOML file."""
        return self.home / CONFIG_NAME

    @property
    def secret_path(self) -> Path:
        """The home's secret, of which every signing key is derived."""
        return self.home / "secret.key"

    @property
    def keys_path(self) -> Path:
        """The API keys' names, roles and hashes."""
        return self.home / "keys.json"

    @property
    def data_dir(self) -> Path:
        """Everything that the system writes."""
        return self.home / "data"

    @property
    def log_path(self) -> Path:
        """The embedded log, the only source of truth."""
        return self.data_dir / "log.db"

    @property
    def content_path(self) -> Path:
        """Texts and everything else that the slate needs."""
        return self.data_dir / "content.db"

    @property
    def claims_path(self) -> Path:
        """What must be atomic across workers."""
        return self.data_dir / "claims.db"

    @property
    def virtual_time_path(self) -> Path:
        """There where event time is virtual; see `millrace.app.virtual_time`."""
        return self.data_dir / "virtual-time"

    @property
    def checkpoints_dir(self) -> Path:
        """States of the stores, each with its log position."""
        return self.data_dir / "checkpoints"

    @property
    def warehouse_dir(self) -> Path:
        """Parquet exports of the log."""
        return self.data_dir / "warehouse"

    @property
    def tables_dir(self) -> Path:
        """Tables made of the warehouse; may be removed, they can be made again."""
        return self.data_dir / "tables"

    @property
    def samples_dir(self) -> Path:
        """What the join has let out, as Parquet, and its state."""
        return self.data_dir / "samples"

    @property
    def social_dir(self) -> Path:
        """Social vectors as of their last refresh, a folder for each encoder; may be removed."""
        return self.data_dir / "social"

    @property
    def models_dir(self) -> Path:
        """The registry: versions of models, and which of them serve."""
        return self.data_dir / "models"

    @property
    def training_dir(self) -> Path:
        """What trainings leave, a folder for each kind, and what an unfinished one keeps."""
        return self.data_dir / "training"

    @property
    def run_dir(self) -> Path:
        """Files of running processes: metrics and traces. Nothing here is needed to start again."""
        return self.home / "run"

    @property
    def traces_dir(self) -> Path:
        """What explains the newest requests; may be removed where nothing runs."""
        return self.run_dir / "traces"


def find_home(given: Path | None, env: Mapping[str, str], cwd: Path) -> Path:
    """Return the home folder: given, else ``MILLRACE_HOME``, else the current folder with its TOML.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if given is not None:
        home = given
    elif env.get(HOME_VARIABLE):
        home = Path(env[HOME_VARIABLE])
    elif (cwd / CONFIG_NAME).is_file():
        home = cwd
    else:
        raise ConfigError(
            "home folder",
            value=str(cwd),
            problem=f"no {CONFIG_NAME} here and none given",
            remedy=f"run `millrace init`, or give --home or {HOME_VARIABLE}",
        )
    home = (cwd / home).resolve()
    if not (home / CONFIG_NAME).is_file():
        raise ConfigError(
            "home folder",
            value=str(home),
            problem=f"holds no {CONFIG_NAME}",
            remedy=f"run `millrace init --home {home}`",
        )
    return home


def env_layer(env: Mapping[str, str]) -> Layer:
    """Return the config values of environment variables such as ``MILLRACE__SERVER__PORT``."""
    pairs = (
        (name.removeprefix(ENV_PREFIX).replace("__", ".").lower(), value)
        for name, value in sorted(env.items())
        if name.startswith(ENV_PREFIX)
    )
    return from_pairs("environment", pairs)


def load_settings(
    home: Path,
    env: Mapping[str, str] | None = None,
    overrides: Sequence[tuple[str, str]] = (),
    check: Callable[[Settings], Iterable[str]] = lambda _settings: (),
) -> Settings:
    """Return the settings of a home folder.

    Parameters
    ----------
    home
        A folder with a ``millrace.toml``.
    env
        The environment; None reads none.
    overrides
        Dotted keys and values of the command line; they win.
    check
        Further problems, to be reported with the others; where values were refused it gets those that were not.

    Raises
    ------
    ConfigError
        With all problems at once.
    """
    above = []
    if env is not None:
        above.append(env_layer(env))
    if overrides:
        above.append(from_pairs("command line", overrides))
    return _load(home, tuple(above), check)


def reload_settings(settings: Settings, check: Callable[[Settings], Iterable[str]] = lambda _settings: ()) -> Settings:
    """Return the settings that the home's file gives now, under the same environment and command line as before.

    Raises
    ------
    ConfigError
        With all problems at once.
    """
    return _load(settings.home, settings.layers_above, check)


def _load(home: Path, above: tuple[Layer, ...], check: Callable[[Settings], Iterable[str]]) -> Settings:
    layers = (read_toml(home / CONFIG_NAME), *above)
    loaded = load(MillraceConfig, layers, lambda config: (*_section_problems(config), *check(Settings(home, config))))
    return Settings(home, loaded.config, loaded.origin_by_key, above)


def _section_problems(config: MillraceConfig) -> Iterator[str]:
    """Yield what is wrong with sections of which each value alone is well."""
    try:
        actions = ActionSpace(config.events.business_actions)
    except ConfigError as error:
        yield from error.problems
        actions = ActionSpace()
    for check in (
        config.stores.engagements.dwell.check,
        lambda: config.flywheel.join.check(actions),
        config.warehouse.check,
        config.near_line.check,
        lambda: config.guards.check(actions),
    ):
        try:
            check()
        except ConfigError as error:
            yield from error.problems


def with_patience(settings: Settings, deadline_ms: float) -> Settings:
    """Return the same settings with more time for a page, for a process that serves just one."""
    home = settings.config.home
    home = msgspec.structs.replace(
        home, deadline_ms=deadline_ms, claim_timeout_ms=deadline_ms, content_timeout_ms=deadline_ms
    )
    return replace(settings, config=msgspec.structs.replace(settings.config, home=home))


def with_port(settings: Settings, port: int) -> Settings:
    """Return the same settings with another port."""
    server = msgspec.structs.replace(settings.config.server, port=port)
    above = (*settings.layers_above, Layer("free port", {"server": {"port": port}}))
    return replace(settings, config=msgspec.structs.replace(settings.config, server=server), layers_above=above)
