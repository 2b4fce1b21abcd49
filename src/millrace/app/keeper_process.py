"""The process around the `Keeper`: how one is built for a home, and its turns until it is to stop."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from millrace.app.keeper import Keeper
from millrace.app.keeper_lock import keeper_lock
from millrace.app.outage import Outage
from millrace.app.settings import Settings
from millrace.app.warehouse_upkeep import WarehouseUpkeep
from millrace.app.warehouse_wiring import build_erasable
from millrace.base.errors import StoreError
from millrace.base.ids import IdHasher, IdKind
from millrace.flywheel.warehouse import Warehouse

_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 15.0
_LONGEST_WAIT_S: Final = 0.5

logger = logging.getLogger(__name__)


def run_keeper(
    settings: Settings,
    *,
    should_stop: Callable[[], bool],
    wait: Callable[[float], None] = time.sleep,
    should_checkpoint: Callable[[], bool] = lambda: False,
    on_ready: Callable[[], None] = lambda: None,
    waits_for_content: bool = False,
) -> None:
    """Be the keeper of a home until ``should_stop`` says so.

    Parameters
    ----------
    settings
        The home.
    should_stop
        Asked between turns.
    wait
        Sleeps up to so many seconds, or until there is a reason not to.
    should_checkpoint
        Whether a checkpoint has been asked for since the last call.
    on_ready
        Called once, when the state and the content have caught up.
    waits_for_content
        Whether a content server that is away is waited for, instead of ending by it: right for a server that has
        served already, wrong at a first start, whose operator is to hear at once of an address that is wrong.
    """
    with keeper_lock(settings.data_dir, should_stop) as is_mine:
        if not is_mine or (waits_for_content and not _is_content_there(settings, should_stop, wait)):
            return
        keeper = open_keeper(settings, looks_at_join=settings.config.flywheel.joins)
        try:
            keeper.start()
            is_ready = False
            while not should_stop():
                was_busy = keeper.turn()
                if not is_ready and not was_busy:
                    is_ready = True
                    on_ready()
                if should_checkpoint():
                    keeper.checkpoint()
                if not was_busy:
                    wait(settings.config.replica.poll_interval_ms / 1000)
            keeper.stop()
        except sqlite3.Error as error:
            raise StoreError(
                "content store",
                value=str(settings.content_path),
                problem=f"cannot be written ({error})",
                remedy="make room on the disk and check permissions; nothing is lost, it is taken in again",
            ) from error


def _is_content_there(settings: Settings, should_stop: Callable[[], bool], wait: Callable[[float], None]) -> bool:
    """Return once the server answers that keeps the content, if one does; False: told to stop before."""
    from millrace.app import wiring

    if settings.config.content_store.backend == "sqlite":
        return True
    outage = Outage(logger, wiring.build_clock(), _FIRST_REST_S, _LONGEST_REST_S)
    while not should_stop():
        try:
            with closing(wiring.build_content_reader(settings)) as content:
                content.position()
        except StoreError as error:
            rest_s = outage.fail(error)
            while rest_s > 0 and not should_stop():  # in steps: a signal alone does not end a wait
                wait(min(rest_s, _LONGEST_WAIT_S))
                rest_s -= _LONGEST_WAIT_S
        else:
            outage.succeed()
            return True
    return False


def open_keeper(settings: Settings, *, looks_at_join: bool = False) -> Keeper:
    """Build the keeper of a home; call it in the process that runs it, and hold `keeper_lock`.

    Parameters
    ----------
    settings
        The home.
    looks_at_join
        Whether it tells how the join stands, in the metrics of the home's server.
    """
    from millrace.app import wiring
    from millrace.app.join_role import join_needs
    from millrace.app.social_refresh import SocialRefresher, live_encoders
    from millrace.app.training_run import forget_training
    from millrace.flywheel.erased_users import SampleErasure
    from millrace.mixer.trace import viewer_mark
    from millrace.stores.trace_erasure import forget_traces

    clock = wiring.build_event_clock(settings)
    log = wiring.build_log(settings, clock)
    codec = wiring.build_codec(settings)
    hasher = IdHasher()
    content = wiring.build_content_store(settings, hasher)
    replica = wiring.build_replica(
        settings, log, listeners=(content,), has_content_reads=False, clock=clock, hasher=hasher
    )
    warehouse = Warehouse(settings.warehouse_dir, codec)

    def forget_pages(user: str) -> None:
        # Opened for the purpose: erasures are rare, and the keeper needs no claims (nor a claim server) otherwise.
        with closing(wiring.build_claims(settings)) as claims:
            claims.forget(hasher.one(IdKind.USER, user))
        forget_traces(settings.traces_dir, viewer_mark(user))
        forget_training(settings)  # a training that was interrupted begins anew: its samples may be the user's

    refresher = SocialRefresher(lambda: live_encoders(settings), settings.social_dir)

    def refresh_social() -> int:
        return refresher.refresh(replica.state)

    look_at_join: Callable[[], object] | None = None
    if looks_at_join:
        from millrace.app.join_metrics import JoinOverseer

        look_at_join = JoinOverseer(settings, log, wiring.build_clock(), wiring.metrics_dir(settings)).look
    config = settings.config
    upkeep = WarehouseUpkeep(settings, clock.monotonic_s) if config.warehouse.keeps_tables else None
    files = wiring.build_sample_files(settings)
    return Keeper(
        log,
        replica,
        content,
        warehouse,
        codec,
        clock,
        config.replica,
        forget_pages,
        refresh_social,
        build_erasable(settings),
        upkeep,
        erase_samples=lambda user, posts, before: SampleErasure(files).erase(user, posts, before=before),
        join_needs=lambda: join_needs(settings, files),
        look_at_join=look_at_join,
    )
