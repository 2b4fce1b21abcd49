"""The registry of models: publish, promote, roll back, verify, prune.

::

    models/
      live.json                                  the only pointer: which versions serve, lane by lane
      history.jsonl                              promotions, rollbacks and refusals, with reasons and times
      withdrawn.jsonl                            versions that were rolled back or failed in service, with reasons
      ranker/20260105T000000-3f9a2c1b/
        manifest.json                            what it is, and the sums of its files
        ranker.onnx ...

The pointer is replaced in one step. Whatever is killed, every reader sees the old or the new one; writers wait for
each other, and readers for nobody. Time is given by the caller: real time, for people.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from millrace.registry.artefacts import ArtefactStore
from millrace.registry.errors import ArtefactError, RegistryError
from millrace.registry.files import replace_durably
from millrace.registry.manifest import KINDS, Kind
from millrace.registry.pointer import (
    DEFAULT_LANE,
    HISTORY_FILE,
    MAX_PREVIOUS,
    POINTER_FILE,
    Change,
    LaneState,
    Pointer,
    Versions,
    changed_to,
    check_lane,
    decode_pointer,
    encode_pointer,
    history_lines,
)
from millrace.registry.withdrawals import (
    WITHDRAWN_FILE,
    Withdrawal,
    left_by,
    standing,
    withdrawal_lines,
)

logger = logging.getLogger(__name__)


class Registry(ArtefactStore):
    """The artefacts in one folder and which of them serve; any number of processes may read and change them.

    Parameters
    ----------
    root
        Made when it is first written to.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._changes = history_lines(root / HISTORY_FILE)
        self._withdrawals = withdrawal_lines(root / WITHDRAWN_FILE)

    def pointer_bytes(self) -> bytes | None:
        """Return the content of the pointer's file, which differs after every change; None if nothing ever served."""
        try:
            return (self.root / POINTER_FILE).read_bytes()
        except FileNotFoundError:
            return None

    def decode(self, data: bytes) -> Pointer:
        """Return the pointer that `pointer_bytes` holds.

        Raises
        ------
        RegistryError
            If it is damaged.
        """
        return decode_pointer(data, str(self.root / POINTER_FILE))

    def pointer(self) -> Pointer | None:
        """Return which versions serve; None if none ever did.

        Raises
        ------
        RegistryError
            If the pointer is damaged.
        """
        data = self.pointer_bytes()
        return None if data is None else self.decode(data)

    def serving(self, lane: str = DEFAULT_LANE) -> Versions:
        """Return the versions that serve a lane, by kind."""
        pointer = self.pointer()
        return {} if pointer is None else pointer.serving(lane)

    def promote(
        self,
        changes: Mapping[Kind, str | None],
        lane: str = DEFAULT_LANE,
        *,
        now_ms: int,
        note: str = "",
        instead_of: Mapping[Kind, str] | None = None,
    ) -> Pointer:
        """Let versions serve a lane, all of them from the same moment; servers follow by themselves.

        Promoting what serves already changes nothing that could be rolled back, and lets servers that refused it
        try again. A version that was withdrawn is so no more; one whose kind is taken out is, if no lane names it then.

        Parameters
        ----------
        changes
            Kind to version; None takes the kind out of the lane. Other kinds stay as they are.
        lane
            Made if there is none of that name.
        now_ms, note
            For the history.
        instead_of
            What must serve the lane now, for whoever has judged by that; None: whatever does.

        Raises
        ------
        ArtefactError
            If a version is not there or damaged; the pointer stays as it is.
        RegistryError
            If the lane cannot be one, something else serves it than must, or the pointer is damaged.
        """
        check_lane(lane)
        with self.alone():
            self._check_serving(instead_of or {}, lane)
            for kind, version in changes.items():
                if version is not None:
                    self.verify(kind, version)
            pointer = self.pointer()
            state = pointer.lanes.get(lane, LaneState()) if pointer else LaneState()
            versions = changed_to(state.versions, changes.items())
            out = [kind for kind, version in changes.items() if version is None]
            self._withdraw_left(pointer, lane, versions, out, now_ms, note or "taken out of service by hand")
            previous = state.previous if versions == state.versions else (state.versions, *state.previous)
            state = LaneState(versions=versions, previous=previous[:MAX_PREVIOUS])
            return self._point(pointer, lane, state, "promoted", now_ms, note)

    def rollback(self, lane: str = DEFAULT_LANE, *, now_ms: int, note: str = "") -> Pointer:
        """Let a lane name what it named before its last promotion; called again, what it named before that.

        What no lane names any more then is withdrawn: by whoever calls, it has failed.

        Raises
        ------
        ArtefactError
            If one of those versions is damaged; the pointer stays as it is.
        RegistryError
            If there is nothing to go back to, or the pointer is damaged.
        """
        with self.alone():
            pointer = self.pointer()
            state = pointer.lanes.get(lane) if pointer else None
            if state is None or not state.previous:
                raise RegistryError(
                    "lane",
                    value=lane,
                    problem="has nothing to go back to",
                    remedy="promote the version that should serve: `millrace models promote KIND=VERSION`",
                )
            versions, *older = state.previous
            for kind, version in versions.items():
                self.verify(kind, version)
            self._withdraw_left(pointer, lane, versions, KINDS, now_ms, note or "rolled back by hand")
            return self._point(
                pointer, lane, LaneState(versions=versions, previous=tuple(older)), "rolled back", now_ms, note
            )

    def withdraw(self, kind: Kind, version: str, *, now_ms: int, reason: str) -> dict[str, Pointer]:
        """Take a version that failed in service out of every lane that names it, and remember it as bad.

        Each lane goes back to what it named last with another version of the kind that is neither damaged nor was ever
        withdrawn itself; where there is none, the kind is taken out of the lane: without a ranker, counters rank what
        the pre-ranker lets through.

        Parameters
        ----------
        kind, version
            What failed.
        now_ms, reason
            For the history.

        Returns
        -------
        dict
            Lane to the pointer after its change; empty where no lane named the version any more.

        Raises
        ------
        RegistryError
            If the pointer is damaged.
        """
        made = {}
        with self.alone():
            pointer = self.pointer()
            self._withdraw_each(pointer, [(kind, version)], now_ms, reason)
            # Even what a person has let in again since: it is not gone back to unasked.
            bad = {(said.kind, said.version) for said in self._withdrawals.all()}
            lanes = pointer.lanes if pointer else {}
            for lane in [lane for lane, state in lanes.items() if state.versions.get(kind) == version]:
                state, what = self._without(lanes[lane], kind, bad)
                pointer = made[lane] = self._point(pointer, lane, state, what, now_ms, reason)
        return made

    def withdrawn(self) -> dict[tuple[Kind, str], Withdrawal]:
        """Return the versions that failed in service, each as it was withdrawn last; not what was promoted again since.

        By a guard (`withdraw`), or by hand: rolled back, or taken out. Nothing promotes them by itself, learns on from
        them, or trusts what they had learned from.

        Raises
        ------
        RegistryError
            If a line of their file or of the history, or the pointer, is damaged.
        """
        withdrawals = self._withdrawals.all()
        return standing(withdrawals, self.history()) if withdrawals else {}

    def drop_lane(self, lane: str, *, now_ms: int, note: str = "") -> Pointer:
        """Remove a lane: whoever asks for it gets the default lane's versions from then on.

        Raises
        ------
        RegistryError
            If there is no such lane, or it is the default one.
        """
        with self.alone():
            pointer = self.pointer()
            if lane == DEFAULT_LANE or pointer is None or lane not in pointer.lanes:
                raise RegistryError(
                    "lane",
                    value=lane,
                    problem="cannot be removed" if lane == DEFAULT_LANE else "is not there",
                    remedy="take kinds out of it instead" if lane == DEFAULT_LANE else "see `millrace models list`",
                )
            return self._point(pointer, lane, None, "lane dropped", now_ms, note)

    def history(self) -> list[Change]:
        """Return all changes and refusals, oldest first.

        Raises
        ------
        RegistryError
            If a line of the history, or the pointer, is damaged.
        """
        changes = self._changes.all()
        pointer = self.pointer()
        if pointer is not None and _last_serial(changes) < pointer.change.serial:
            changes.append(pointer.change)  # its writer was killed before it could append it
        return changes

    def record_refusal(self, serial: int, lane: str, versions: Versions, reason: str, *, now_ms: int) -> None:
        """Write down that a server goes on with what it had; once, however many servers say the same."""
        change = Change(serial=serial, at_ms=now_ms, what="refused", lane=lane, versions=versions, note=reason)
        with self.alone():
            self._mend_history()
            said = (msgspec.structs.replace(other, at_ms=now_ms) for other in self._changes.all())
            if change not in said:
                self._changes.append(change)

    def prune(self, keep: int, *, is_dry: bool = False) -> list[tuple[Kind, str]]:
        """Remove old versions; return which. What serves, or is kept for a rollback, is never removed.

        Parameters
        ----------
        keep
            How many of the newest versions of each kind to keep besides.
        is_dry
            Only tell.

        Raises
        ------
        RegistryError
            If the pointer is damaged: nobody knows then what serves.
        """
        if keep < 0:
            raise RegistryError("versions to keep", value=keep, problem="negative", remedy="give 0 or more")
        with self.alone():
            pointer = self.pointer()
            named = pointer.named() if pointer else set()
            old = [
                (kind, version)
                for kind in KINDS
                for version in self.versions(kind)[: -keep or None]
                if (kind, version) not in named
            ]
            if not is_dry:
                self.remove(old)
        return old

    def _check_serving(self, expected: Mapping[Kind, str], lane: str) -> None:
        serving = self.serving(lane) if expected else {}
        for kind, version in expected.items():
            if serving.get(kind) != version:
                raise RegistryError(
                    f"{kind} of lane {lane}",
                    value=serving.get(kind),
                    problem=f"serves in the place of {version}, beside which the new version was judged",
                    remedy="judge it beside what serves now",
                )

    def _withdraw_left(
        self,
        pointer: Pointer | None,
        lane: str,
        versions: Versions,
        kinds: Iterable[Kind],
        now_ms: int,
        reason: str,
    ) -> None:
        """Withdraw what a lane leaves and no other names; before the pointer moves."""
        left = left_by(pointer, lane, versions) if pointer else {}
        self._withdraw_each(pointer, [(kind, left[kind]) for kind in kinds if kind in left], now_ms, reason)

    def _withdraw_each(self, pointer: Pointer | None, items: list[tuple[Kind, str]], now_ms: int, reason: str) -> None:
        try:
            known = self.withdrawn() if items else {}
        except RegistryError as error:  # to say it twice is no harm
            logger.warning("%s", error)
            known = {}
        for kind, version in items:
            if (kind, version) not in known:
                serial = pointer.change.serial if pointer else self._last_recorded()
                said = Withdrawal(at_ms=now_ms, serial=serial, kind=kind, version=version, reason=reason)
                self._withdrawals.append(said)

    def _without(self, state: LaneState, kind: Kind, bad: AbstractSet[tuple[Kind, str]]) -> tuple[LaneState, str]:
        """Return what a lane goes back to, and whether that is a rollback or, without the kind, a promotion."""
        for place, versions in enumerate(state.previous):
            if kind not in versions or not bad.isdisjoint(versions.items()):
                continue
            try:
                for other, version in versions.items():
                    self.verify(other, version)
            except ArtefactError as error:
                logger.warning("%s", error)
                continue
            return LaneState(versions=versions, previous=state.previous[place + 1 :]), "rolled back"
        return LaneState(versions=changed_to(state.versions, [(kind, None)]), previous=()), "promoted"

    def _point(
        self, pointer: Pointer | None, lane: str, state: LaneState | None, what: str, now_ms: int, note: str
    ) -> Pointer:
        """Replace the pointer, then append to the history."""
        self._mend_history()
        lanes = {name: other for name, other in (pointer.lanes if pointer else {}).items() if name != lane}
        if state is not None:
            lanes[lane] = state
        serial = 1 + (pointer.change.serial if pointer else self._last_recorded())
        change = msgspec.convert(
            {
                "serial": serial,
                "at_ms": now_ms,
                "what": what,
                "lane": lane,
                "versions": state.versions if state else {},
                "note": note,
            },
            Change,
        )
        made = Pointer(lanes=lanes, change=change)
        replace_durably(self.root / POINTER_FILE, encode_pointer(made))
        try:
            self._changes.append(change)
        except OSError as error:  # the change is made, and the next writer appends it
            logger.warning("the models' history could not be written (%s)", error)
        logger.info("models: %s lane %s: %s", what, lane, change.versions)
        return made

    def _mend_history(self) -> None:
        """Append the pointer's change if whoever made it was killed before he could."""
        try:
            pointer = self.pointer()
            recorded = _last_serial(self._changes.all())
        except RegistryError as error:
            logger.warning("%s", error)  # what is to be written now goes on all the same
            return
        if pointer is not None and recorded < pointer.change.serial:
            self._changes.append(pointer.change)

    def _last_recorded(self) -> int:
        try:
            return _last_serial(self._changes.all())
        except RegistryError:
            return 0  # `_mend_history` has told


def _last_serial(changes: Iterable[Change]) -> int:
    """Return the serial of the last change of the pointer; 0 if there was none."""
    return max((change.serial for change in changes if change.what != "refused"), default=0)
