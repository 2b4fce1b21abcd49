"""`LocalFeedClient`: the real feed in this process, in virtual time, for simulations: no sockets, no deadlines.

Log, door, stores, pipelines and claims are the real ones. What is simpler than in a server: the state is folded when
virtual time advances and stands still in between, and a new service is made then, as after a restart of a worker, so
that nothing depends on how far a run had come when it was interrupted, or on how many processes share it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.app import wiring
from millrace.app.settings import Settings, load_settings
from millrace.app.simulation.team import Team
from millrace.base.clock import ManualClock
from millrace.base.ids import IdKind, hash_id
from millrace.events.envelope import AnyEvent
from millrace.features.columns import ACTION_PROBS, POST_ID, SCORE
from millrace.mixer.feed import FeedRequest
from millrace.pipeline.result import PipelineResult
from millrace.simulator.client import Inside, Page, PageRequest
from millrace.simulator.policies import Policy
from millrace.stores.claims import MemoryClaims

if TYPE_CHECKING:
    from millrace.mixer.feed_state import FeedState
    from millrace.mixer.service import FeedService
    from millrace.simulator.feeds import Revise

_PATIENCE_MS: Final = 86_400_000.0
"""Beyond any page: the first ones may wait for minutes, where kernels are compiled on a busy machine."""

LOGS_FEATURES: Final = "home.logs_features"
"""A policy that sets it logs what models saw of its pages, as a server does; most runs do without, and stay small."""

ReviseFor = Callable[[Policy, "FeedState"], "Revise | None"]


class _Kept:
    """Keeps the events of pages; a `ServedLogger`."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []

    def log(self, event: AnyEvent) -> None:
        self.events.append(event)


class LocalFeedClient:
    """A feed client over a home folder, with one service for each policy.

    Parameters
    ----------
    settings
        The home; its log is opened by every process of the team, and appended to by the first.
    policies
        By arm.
    revise_for
        Says how a policy changes the stages; called whenever a service is made.
    team
        The processes that share the work.
    now_ms
        Virtual time to begin with.
    position
        The log offset at which the state is to stand, for a run that is taken up again; None for all there is.
    shadows
        Policies that serve nobody; see `shadow_scores`.
    """

    def __init__(
        self,
        settings: Settings,
        policies: Sequence[Policy],
        revise_for: ReviseFor,
        team: Team,
        now_ms: int,
        position: int | None = None,
        *,
        shadows: Sequence[Policy] = (),
    ) -> None:
        self._settings_by_arm = [_patient(policy_settings(settings, policy)) for policy in policies]
        self._policies = tuple(policies)
        self._shadows = tuple(shadows)
        self._shadow_settings = [_patient(policy_settings(settings, policy)) for policy in shadows]
        self._shadow_services: list[FeedService] = []
        self._revise_for = revise_for
        self._team = team
        self._clock = ManualClock(now_ms)
        self._log = wiring.build_log(settings, self._clock)
        self._codec = wiring.build_codec(settings)
        self._collector = wiring.build_collector(settings, self._log, self._codec, self._clock)
        self.replica = wiring.build_replica(settings, self._log, clock=self._clock)
        self.replica.restore()
        if position is None:
            self.replica.catch_up()
        else:
            self._fold_to(position)
        self._loop = asyncio.new_event_loop()
        self._served: list[AnyEvent] = []
        self._services: list[FeedService] = []
        self._kept, self._features = _Kept(), _Kept()
        self._begin_slice()

    @property
    def position(self) -> int:
        """The log offset that the state stands at."""
        return self.replica.position[0]

    @property
    def source_names(self) -> tuple[str, ...]:
        """Names of all sources of all policies, in order of their first appearance."""
        names: dict[str, None] = {}
        for service in self._services:
            names.update(dict.fromkeys(source.name for source in service.pipeline.stages.sources))
        return tuple(names)

    def pages(self, requests: Sequence[PageRequest]) -> list[Page]:
        """Return a page for each request; the team's processes make a share each."""
        mine = {i: self._page(request) for i, request in enumerate(requests) if self._team.is_mine(request.viewer_id)}
        every: dict[int, tuple[Page, tuple[bytes, ...]]] = {}
        for share in self._team.gather(mine):
            every.update(share)
        self._served.extend(self._codec.decode(data) for i in range(len(requests)) for data in every[i][1])
        return [every[i][0] for i in range(len(requests))]

    def shadow_scores(self, request: PageRequest, post_ids: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return what each shadow would score posts for a request, shape (n_shadows, n_posts); NaN where it drops them.

        Nothing is claimed or logged. Made from the state as it is: to be called before virtual time goes on.
        """
        self._clock.set_ms(request.now_ms)
        insides = np.array([hash_id(IdKind.POST, post_id) for post_id in post_ids], dtype=np.int64)
        scores = np.full((len(self._shadow_services), len(insides)), np.nan)
        wanted = FeedRequest(
            viewer_id=request.viewer_id, request_id=request.request_id, limit=request.limit, is_dry_run=True
        )
        for shadow, service in enumerate(self._shadow_services):
            ranked = self._loop.run_until_complete(service.execute(wanted)).ranked
            order = np.argsort(ranked[POST_ID], kind="stable")
            ids = ranked[POST_ID][order]
            if not len(ids):
                continue
            at = np.minimum(np.searchsorted(ids, insides), len(ids) - 1)
            scores[shadow] = np.where(ids[at] == insides, ranked[SCORE][order][at], np.nan)
        return scores

    def send(self, events: Sequence[AnyEvent]) -> None:
        """Take events in, with what the pages so far have logged; durable when it returns."""
        both = sorted([*self._served, *events], key=_time_of)
        self._served = []
        if self._team.is_first and both:
            self._clock.set_ms(max(self._clock.now_ms(), both[-1].event_time_ms))
            receipt = self._collector.submit(both)
            if receipt.n_refused:
                problem = next(result.error for result in receipt if result.error)
                raise AssertionError(f"the world told something that the door refuses: {problem}")

    def advance(self, now_ms: int) -> None:
        """Fold everything that was sent, and go on to a later time."""
        self._team.gather(None)  # what the first process has appended is there for all
        self._clock.set_ms(now_ms)
        self.replica.catch_up()
        self._begin_slice()

    def close(self) -> None:
        """Close the log."""
        self._loop.close()
        self.replica.close()
        self._log.close()

    def _begin_slice(self) -> None:
        self._kept, self._features = _Kept(), _Kept()
        # Claims last for a slice: what was served before is in the state by then.
        self._services = [self._service(*both) for both in zip(self._settings_by_arm, self._policies, strict=True)]
        self._shadow_services = [
            self._service(*both) for both in zip(self._shadow_settings, self._shadows, strict=True)
        ]

    def _service(self, settings: Settings, policy: Policy) -> FeedService:
        return wiring.build_feed_service(
            settings,
            self.replica,
            self._kept,
            features_logger=self._features if LOGS_FEATURES in policy.settings else None,
            claims=MemoryClaims(),
            clock=self._clock,
            revise=self._revise_for(policy, self.replica.state),
        )

    def _page(self, request: PageRequest) -> tuple[Page, tuple[bytes, ...]]:
        """Return a page and what it logs, encoded: pickled events would come out of the log with other bytes."""
        self._clock.set_ms(request.now_ms)
        service = self._services[request.arm]
        wanted = FeedRequest(
            viewer_id=request.viewer_id,
            request_id=request.request_id,
            limit=request.limit,
            cursor=request.cursor,
            debug=True,
            why=False,
        )

        async def make() -> Page:
            response, result = await service.home_with_result(wanted)
            await service.drain()
            return Page(
                post_ids=tuple(post.post_id for post in response.posts),
                sources=tuple(post.sources for post in response.posts),
                scores=tuple(post.score for post in response.posts),
                cursor=response.cursor,
                n_candidates=result.candidates.n,
                n_outcomes=len(result.report.outcomes),
                served_request_id=request.request_id,
                inside=_inside(result),
            )

        page = self._loop.run_until_complete(make())
        logged = [self._kept.events.pop(), *self._features.events]
        self._features.events.clear()
        return page, tuple(map(self._codec.encode, logged))

    def _fold_to(self, position: int) -> None:
        while self.replica.position[0] < position:
            self.replica.step(position - self.replica.position[0], before=(position,))


def _inside(result: PipelineResult) -> Inside:
    ranked = result.ranked
    order = np.lexsort((ranked[POST_ID], -ranked[SCORE]))[: result.query.limit]
    candidates = result.candidates[POST_ID]
    return Inside(
        candidates=candidates,
        filtered=candidates[result.ranked_rows],
        preranked=candidates[result.ranked_rows],
        ranked=ranked[POST_ID][order],
        predictions=np.asarray(result.slate[ACTION_PROBS], dtype=np.float32),
    )


def policy_settings(settings: Settings, policy: Policy) -> Settings:
    """Return the home's settings as a policy has them."""
    if not policy.settings:
        return settings
    pairs = [
        (key, value if isinstance(value, str) else msgspec.json.encode(value).decode())
        for key, value in policy.settings.items()
    ]
    from millrace.app.commands.options import param_problems

    return load_settings(settings.home, None, pairs, param_problems)


def _patient(settings: Settings) -> Settings:
    """Return settings without deadlines, that raise what a stage raises: a run shows defects."""
    home = msgspec.structs.replace(
        settings.config.home,
        deadline_ms=_PATIENCE_MS,
        claim_timeout_ms=_PATIENCE_MS,
        content_timeout_ms=_PATIENCE_MS,
        is_strict=True,
    )
    return replace(settings, config=msgspec.structs.replace(settings.config, home=home))


def _time_of(event: AnyEvent) -> int:
    return event.event_time_ms
