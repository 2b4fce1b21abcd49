"""One simulated run: a world before one or several policies for some virtual hours; goes on after a kill."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from millrace.app import wiring
from millrace.app.settings import Settings, load_settings
from millrace.app.simulation.homes import START_MS, base_home, copy_home, state_path, world_key
from millrace.app.simulation.local_client import LocalFeedClient
from millrace.app.simulation.team import Team, run_team
from millrace.base.clock import ManualClock
from millrace.base.errors import ConfigError
from millrace.simulator.atlas import Atlas
from millrace.simulator.client import FeedClient
from millrace.simulator.config import HOUR_MS, WorldConfig
from millrace.simulator.draws import Int64Array
from millrace.simulator.feeds import Revise, revise
from millrace.simulator.loop import Loop, Round, SliceDone
from millrace.simulator.mechanisms.situation import WORLD_ACTIONS
from millrace.simulator.oracle import Oracle
from millrace.simulator.policies import Policy
from millrace.simulator.posts import KIND_NAMES
from millrace.simulator.recorder import Recorder
from millrace.simulator.records import RecordWriter, RunMeta
from millrace.simulator.snapshot import Snapshot, read_snapshot, under_way, write_snapshot
from millrace.simulator.vocabulary import TOPICS
from millrace.simulator.world import World

_SPEC: Final = "spec.json"
_STATE: Final = "state.npz"
_HOME: Final = "home"
_STALE_MS: Final = 48 * HOUR_MS
_STALE_STEP: Final = 1_000


@dataclass(frozen=True, slots=True)
class Progress:
    """How a run stands after a slice.

    Attributes
    ----------
    n_slices, n_slices_in_all
        Done, and to do.
    n_pages, n_looks, n_events
        Of this slice.
    satisfaction_per_look
        Of this slice's sessions, in the mean.
    """

    n_slices: int
    n_slices_in_all: int
    n_pages: int
    n_looks: int
    n_events: int
    satisfaction_per_look: float


OnProgress = Callable[[Progress], None]


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is to be; two runs of equal specs leave the same bytes.

    Attributes
    ----------
    folder
        Where it goes.
    worlds
        Where worlds' histories are kept.
    world
        The world.
    policies
        One for everybody, or several for a share of the people each.
    hours
        Virtual hours.
    limit
        Posts that a page is asked for.
    regret_frac
        Share of the pages that are held against the oracle.
    max_pages
        The run ends after the slice in which it has made so many; 0 for no bound.
    begins_with
        The folder of a run of the same world that this one goes on from, as it stands, with policies of its own: its
        slices count among ``hours``, its records stay where they are. Empty: from the end of the history.
    """

    folder: str
    worlds: str
    world: WorldConfig
    policies: tuple[Policy, ...]
    hours: float
    limit: int = 20
    regret_frac: float = 0.05
    keeps_items: bool = True
    max_pages: int = 0
    begins_with: str = ""


@dataclass
class Hooks:
    """What somebody who runs a simulation may add; none of it changes the run.

    Attributes
    ----------
    on_progress
        Hears of every slice.
    on_slice
        The same, with everything at hand; in the first process of the team.
    on_round
        Hears of every round of pages, before the world remembers it.
    shadows
        Policies that serve nobody, but can be asked what they would have scored.
    """

    on_progress: OnProgress = field(default=lambda _progress: None)
    on_slice: Callable[[SliceDone, World, FeedClient], None] | None = None
    on_round: Callable[[Round, World, FeedClient], None] | None = None
    shadows: tuple[Policy, ...] = ()


def run(spec: RunSpec, n_processes: int = 1, hooks: Hooks | None = None) -> int:
    """Make a run, or go on with one that was interrupted; return how many pages it has made in all.

    Raises
    ------
    ConfigError
        If the folder holds a run of another spec.
    """
    prepare(spec)
    if n_processes == 1:
        return _work(Team(), spec, hooks)
    return run_team(n_processes, _Work(hooks), spec)


@dataclass(frozen=True)
class _Work:
    """The first process has the hooks; the others get none."""

    hooks: Hooks | None

    def __call__(self, team: Team, spec: RunSpec) -> int:
        return _work(team, spec, self.hooks if team.is_first else None)

    def __reduce__(self) -> tuple[Any, tuple[None]]:
        return _Work, (None,)


def prepare(spec: RunSpec, on_progress: Callable[[int], None] = lambda _n: None) -> None:
    """Make the world's history and the run's own copy of it, where they are not there yet."""
    folder = Path(spec.folder)
    spec_path = folder / _SPEC
    mark = msgspec.json.format(msgspec.json.encode((world_key(spec.world), _essence(spec))))
    if spec_path.exists() and spec_path.read_bytes() != mark:
        raise ConfigError(
            "run folder", value=spec.folder, problem="holds another run", remedy="give another folder, or remove it"
        )
    if spec_path.exists():
        return
    if spec.begins_with:
        _take_over(Path(spec.begins_with), spec, folder)
    else:
        copy_home(base_home(spec.world, Path(spec.worlds), on_progress), folder / _HOME)
    spec_path.write_bytes(mark)


def _take_over(earlier: Path, spec: RunSpec, folder: Path) -> None:
    """Copy a run's home and world as they stand; both go their own ways from there."""
    made = earlier / _SPEC
    if not made.exists() or not (earlier / _STATE).exists():
        raise ConfigError(
            "run to begin with", value=str(earlier), problem="holds no run", remedy="give the folder of a finished run"
        )
    key, _ = msgspec.json.decode(made.read_bytes(), type=tuple[str, msgspec.Raw])
    if key != world_key(spec.world):
        raise ConfigError(
            "run to begin with",
            value=str(earlier),
            problem=f"is of the world {key}, not of {world_key(spec.world)}",
            remedy="give the same size, mechanism, seed and settings, and a run of this version",
        )
    copy_home(earlier / _HOME, folder / _HOME)
    shutil.copyfile(earlier / _STATE, folder / _STATE)


def _essence(spec: RunSpec) -> RunSpec:
    """Return what decides the bytes of a run; it may become longer when it is taken up again."""
    return msgspec.structs.replace(spec, folder="", worlds="", hours=0.0)


def run_home(folder: Path) -> Path:
    """Return the home of a run: log, state and config of the feed that was used."""
    return folder / _HOME


def _work(team: Team, spec: RunSpec, hooks: Hooks | None) -> int:
    hooks = hooks or Hooks()
    folder = Path(spec.folder)
    settings = load_settings(folder / _HOME)
    world, atlas, snapshot = restored(spec)
    team.gather(None)  # nobody writes a newer snapshot before all have read this one
    client = LocalFeedClient(
        settings,
        spec.policies,
        _reviser(settings, Oracle(world, atlas), spec.policies),
        team,
        snapshot.start_ms,
        snapshot.log_position,
        shadows=hooks.shadows,
    )
    try:
        return slices(spec, hooks, world, atlas, client, snapshot, client.source_names, is_first=team.is_first)
    finally:
        client.close()


def restored(spec: RunSpec) -> tuple[World, Atlas, Snapshot]:
    """Return a run's world as it stood after its last whole slice, or at the end of its history."""
    folder = Path(spec.folder)
    world = World(spec.world, START_MS)
    own = folder / _STATE
    snapshot = read_snapshot(own if own.exists() else state_path(folder / _HOME), world)
    atlas = Atlas(world.narrator, world.people.n_users)
    atlas.extend(world.posts.n_posts)
    return world, atlas, snapshot


def slices(
    spec: RunSpec,
    hooks: Hooks,
    world: World,
    atlas: Atlas,
    client: FeedClient,
    snapshot: Snapshot,
    source_names: tuple[str, ...],
    *,
    is_first: bool = True,
) -> int:
    """Let the rest of a run's virtual time pass; return how many pages it has made in all.

    ``is_first`` says whether this process writes what the run leaves.
    """
    folder = Path(spec.folder)
    codec = wiring.build_codec(load_settings(folder / _HOME))
    recorder = Recorder(
        world,
        atlas,
        source_names,
        limit=spec.limit,
        regret_frac=spec.regret_frac,
        keeps_items=spec.keeps_items,
    )
    recorder.n_pages, recorder.n_sessions = snapshot.n_pages, snapshot.n_sessions

    def listen(round_: Round, arm: Int64Array) -> None:
        if is_first:
            recorder.hear(round_, arm)
            if hooks.on_round is not None:
                hooks.on_round(round_, world, client)

    loop = Loop(world, client, spec.policies, atlas=atlas, limit=spec.limit, listen=listen)
    loop.delivery.under_way = [(arrives_ms, codec.decode(data)) for arrives_ms, data in snapshot.under_way]
    writer = RecordWriter(folder) if is_first else None
    if writer is not None:
        writer.forget_from(snapshot.n_slices)
    n_slices_in_all = round(spec.hours * HOUR_MS / world.slice_ms)
    start_ms, n_pages = snapshot.start_ms, snapshot.n_pages
    for number in range(snapshot.n_slices, n_slices_in_all):
        if spec.max_pages and n_pages >= spec.max_pages:
            break
        done = loop.run_slice(start_ms)
        start_ms = done.stop_ms
        n_pages += sum(len(round_.pages) for round_ in done.rounds)
        if writer is None:
            continue
        writer.write(number, recorder.close(done))
        writer.describe(_meta(spec, source_names, start_ms))
        write_snapshot(
            folder / _STATE,
            Snapshot(
                start_ms=start_ms,
                log_position=getattr(client, "position", 0),
                n_slices=number + 1,
                n_pages=recorder.n_pages,
                n_sessions=recorder.n_sessions,
                under_way=under_way(loop.delivery, codec.encode),
            ),
            world,
        )
        hooks.on_progress(_progress(done, number + 1, n_slices_in_all))
        if hooks.on_slice is not None:
            hooks.on_slice(done, world, client)
    if writer is not None:
        writer.write(0, recorder.census(loop.arm_of_user))
    return n_pages


def _reviser(
    settings: Settings, oracle: Oracle, policies: tuple[Policy, ...]
) -> Callable[[Policy, Any], Revise | None]:
    stale = _frozen_state(settings) if any(policy.feed == "stale" for policy in policies) else None

    def revise_for(policy: Policy, state: Any) -> Revise | None:
        return revise(policy.feed, state, oracle=oracle, stale=stale)

    return revise_for


def _frozen_state(settings: Settings) -> Any:
    """Return the stores as they were two days before the run began: a replica that stopped following then."""
    clock = ManualClock(START_MS)
    log = wiring.build_log(settings, clock)
    replica = wiring.build_replica(settings, log, clock=clock, has_content_reads=False)
    while replica.state.watermark.now_ms < START_MS - _STALE_MS and len(replica.step(_STALE_STEP).records):
        pass
    state = replica.state
    replica.close()
    log.close()
    return state


def _meta(spec: RunSpec, sources: tuple[str, ...], ended_ms: int) -> RunMeta:
    return RunMeta(
        mechanism=spec.world.mechanism,
        size=spec.world.size,
        seed=spec.world.seed,
        arms=tuple(policy.name for policy in spec.policies),
        began_ms=START_MS,
        ended_ms=ended_ms,
        topics=TOPICS,
        languages=tuple(spec.world.language_shares),
        kinds=KIND_NAMES,
        sources=sources,
        actions=tuple(action.label for action in WORLD_ACTIONS),
        page_limit=spec.limit,
    )


def _progress(done: SliceDone, number: int, n_in_all: int) -> Progress:
    n_looks = sum(int(round_.looks.is_examined.sum()) for round_ in done.rounds)
    return Progress(
        n_slices=number,
        n_slices_in_all=n_in_all,
        n_pages=sum(len(round_.pages) for round_ in done.rounds),
        n_looks=n_looks,
        n_events=done.n_events,
        satisfaction_per_look=float(done.per_look.mean()) if len(done.per_look) else 0.0,
    )
