"""`millrace simulate recall`: retrieval towers against the truth, as they would serve where a run ends.

The run's home is folded to its end, the towers' index is filled from it as a server fills it, and people who used the
feed are asked for. What each of them would act on among all live posts, the run's world knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from millrace.app import wiring
from millrace.app.evaluation import ShowProgress
from millrace.app.settings import Settings, load_settings
from millrace.app.simulation.homes import world_key
from millrace.app.simulation.run import RunSpec, restored, run_home
from millrace.base.errors import ConfigError
from millrace.base.ids import IdKind, Int64Array, hash_id
from millrace.base.progress import moving
from millrace.features.encoding.encoders import Encoders
from millrace.simulator.judge.recall import Corpus, RetrieverRecall, chance_of_any, judge_recall
from millrace.simulator.judge.tables import table
from millrace.simulator.oracle import Oracle
from millrace.simulator.posts import ORIGINAL, QUOTE
from millrace.simulator.records import RunRecords

if TYPE_CHECKING:
    from millrace.inference.post_index import PostIndex
    from millrace.mixer.feed_state import FeedState
    from millrace.simulator.world import World

N_COLD: Final = 10
"""Posts of the run that have been looked at fewer times than this are cold."""

POPULARITY: Final = "popularity"
"""By likes so far: the same for everybody."""

SERVED: Final = "served"
_SPEC: Final = "spec.json"


class RecallFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What retrievers find.

    Attributes
    ----------
    at_ms
        The moment: where the run ends.
    n_live, n_cold
        Posts that a person may be found, and cold ones among them, in the mean.
    n_wanted
        How many of them a person would act on, in expectation, in the mean.
    retrievers
        `POPULARITY` and the Bayes retriever among them.
    """

    run: str
    at_ms: int
    n_people: int
    n_live: float
    n_cold: float
    n_wanted: float
    retrievers: tuple[RetrieverRecall, ...]


def recall_figures(
    run: Path,
    towers: Mapping[str, Path],
    show_progress: ShowProgress,
    *,
    n_people: int = 500,
    seed: int = 1,
) -> RecallFigures:
    """Judge retrieval towers at the end of a run, on originals and quotes that are at most two days old.

    Parameters
    ----------
    run
        The run's folder, with its home; its records must hold ``items``.
    towers
        Name to a folder that `train_retrieval` wrote, or to its exported form; the others are compared with the first.
    n_people
        So many of those who used the feed are drawn.
    seed
        Of the draw, and of the intervals.

    Raises
    ------
    ConfigError
        If there is no run, or another version made its world.
    """
    records, spec = RunRecords.read(run), _spec(run)
    world, atlas, snapshot = restored(spec)
    at_ms = snapshot.start_ms
    for _ in world.open_slice(at_ms, at_ms + world.slice_ms):
        pass  # interests and follows stand where the next visit would find them; what is written now is nobody's yet
    oracle = Oracle(world, atlas)
    settings = load_settings(run_home(run))
    state = _state(settings, show_progress)
    indexes = {name: _index(settings, state, folder) for name, folder in towers.items()}
    is_cold = _is_cold(records, world)
    viewers = Encoders.of(state, state.texts, state.profile_texts).viewers
    corpora = []
    with show_progress("asking (people)") as step:
        people = _people(records, n_people, seed)
        for done, person in enumerate(people.tolist()):
            rows = oracle.may_be_shown(person, oracle.live(at_ms), at_ms)
            rows = rows[np.isin(world.posts["kind"][rows], (ORIGINAL, QUOTE))]
            inputs, ids = viewers.encode(hash_id(IdKind.USER, world.narrator.user_id(person))), atlas.insides(rows)
            scores = {name: _scores(*index.search(inputs, max(index.n, 1)), ids) for name, index in indexes.items()}
            scores[POPULARITY] = world.posts["n_likes"][rows].astype(np.float64)
            corpora.append(Corpus(_chances(world, person, rows, at_ms), is_cold[rows], scores))
            moving(step)(done + 1, len(people))
    for index in indexes.values():
        index.close()
    return RecallFigures(
        run=str(run),
        at_ms=at_ms,
        n_people=len(corpora),
        n_live=float(np.mean([len(corpus.chance) for corpus in corpora])),
        n_cold=float(np.mean([corpus.is_cold.sum() for corpus in corpora])),
        n_wanted=float(np.mean([corpus.chance.sum() for corpus in corpora])),
        retrievers=judge_recall(corpora, seed=seed),
    )


def _spec(run: Path) -> RunSpec:
    """Return what a run is, from its folder."""
    path = run / _SPEC
    try:
        key, spec = msgspec.json.decode(path.read_bytes(), type=tuple[str, RunSpec])
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(
            "run", value=str(run), problem=f"its spec cannot be read ({error})", remedy="make one: simulate run"
        ) from error
    if key != world_key(spec.world):
        raise ConfigError(
            "run", value=str(run), problem="is of the world of another version", remedy="make the run anew"
        )
    return msgspec.structs.replace(spec, folder=str(run))


def _state(settings: Settings, show_progress: ShowProgress) -> FeedState:
    """Return a home's state at the end of its log; reads only."""
    log = wiring.build_log(settings)
    try:
        replica = wiring.build_replica(settings, log, has_content_reads=False)
        replica.restore()
        with show_progress("folding the log (records)") as step:
            replica.catch_up(moving(step))
        return replica.state
    finally:
        log.close()


def _index(settings: Settings, state: FeedState, folder: Path) -> PostIndex:
    from millrace.features.encoding.candidates import schema_hash
    from millrace.inference.post_index import PostIndex
    from millrace.inference.retrieval_model import RetrievalModel

    served = folder / SERVED if (folder / SERVED).is_dir() else folder
    model = RetrievalModel.open(served, schema_hash(wiring.build_actions(settings)))
    index = PostIndex(model, state, state.texts)
    index.fill()
    return index


def _is_cold(records: RunRecords, world: World) -> npt.NDArray[np.bool_]:
    """Return which of the world's posts are of the run, and hardly looked at in it, shape (n_posts,)."""
    looked = table(records, "items").filter(pl.col("is_examined"))["post"].to_numpy()
    is_of_run = world.posts["created_ms"] >= records.meta.began_ms
    is_cold: npt.NDArray[np.bool_] = is_of_run & (np.bincount(looked, minlength=len(is_of_run)) < N_COLD)
    return is_cold


def _people(records: RunRecords, n_people: int, seed: int) -> Int64Array:
    """Return some of those who used the feed, ascending."""
    everybody = table(records, "pages")["viewer"].unique().sort().to_numpy().astype(np.int64)
    if len(everybody) <= n_people:
        return everybody
    return np.sort(np.random.default_rng(seed).choice(everybody, n_people, replace=False))


def _chances(world: World, person: int, rows: Int64Array, at_ms: int) -> npt.NDArray[np.float64]:
    """Return the true chance that a person takes up each post, were it the first of a page."""
    encounters = world.encounters
    situation = encounters.situation(np.full(len(rows), person), rows, at_ms)
    return chance_of_any(encounters.mechanism.law, encounters.respond(situation, np.arange(len(rows))))


def _scores(found: Int64Array, cosines: npt.NDArray[np.floating], wanted: Int64Array) -> npt.NDArray[np.float64]:
    """Return the cosines of posts in the order that they are wanted in; minus infinity for what was not found."""
    scores = np.full(len(wanted), -np.inf)
    if not len(found):
        return scores
    order = np.argsort(found, kind="stable")
    at = np.minimum(np.searchsorted(found[order], wanted), len(found) - 1)
    is_found = found[order][at] == wanted
    scores[is_found] = cosines[order][at][is_found]
    return scores
