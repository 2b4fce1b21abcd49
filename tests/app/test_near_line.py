"""The near-line process: a fault is taken away by itself, a good ranker stays, and what was learned survives a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from millrace.app import cli
from millrace.app.commands.init import make_home
from millrace.app.metrics import Metrics
from millrace.app.near_line import GROUP, NearLine, read_report
from millrace.app.near_line_metrics import NearLineMetrics
from millrace.app.settings import MillraceConfig, Settings
from millrace.base.actions import Action
from millrace.base.clock import ManualClock
from millrace.base.errors import LogError
from millrace.events.codec import EventCodec
from millrace.events.model_events import ModelWithdrawn
from millrace.events.registry import EventRegistry
from millrace.flywheel.guards.config import GuardsConfig
from millrace.flywheel.guards.monitor import GuardMonitor
from millrace.flywheel.guards.readings import GuardReport
from millrace.flywheel.near_line.config import NearLineConfig
from millrace.flywheel.near_line.learner import NearLineLearner
from millrace.inference.near_line_store import NearLineStore
from millrace.registry.manifest import Description
from millrace.registry.registry import Registry
from millrace.registry.withdrawals import WITHDRAWN_FILE, Withdrawal, withdrawal_lines
from millrace.stores.applier import decode_records
from millrace.stream.collector import Collector
from millrace.stream.log import total
from millrace.stream.memory_log import MemoryLog
from millrace.testing.builders import NOW_MS
from millrace.testing.live_traffic import ACTIONS, LiveTraffic, Predict, blind, good, scrambled, threefold

CODEC = EventCodec(EventRegistry(), ACTIONS)
CONFIG = NearLineConfig(n_slots=4_096, calibration_rows=2_048, alpha=0.1, l1=0.1)
GUARDS = GuardsConfig(n_confirm=2, window_rows=4_000, min_positives=60)


class House:
    """A log, a registry, and the near-line process over them, turned by hand."""

    def __init__(self, folder: Path, seed: int = 1, guards: GuardsConfig = GUARDS) -> None:
        self.folder = folder
        self.clock = ManualClock(NOW_MS)
        self.log = MemoryLog(ManualClock(NOW_MS + 10**9))
        self.door = Collector(self.log, CODEC, self.clock)
        self.registry = Registry(folder / "models")
        self.traffic = LiveTraffic(seed)
        self.guards = guards
        self.near_line = self.begin()

    def begin(self) -> NearLine:
        self.metrics = Metrics()
        learner_monitor = GuardMonitor(self.guards, ACTIONS)
        learner = NearLineLearner(CONFIG, self.traffic.hasher, ACTIONS, watchers=(learner_monitor,))
        near_line = NearLine(
            self.log, CODEC, self.clock, learner, learner_monitor, self.registry, self.door, CONFIG, self.guards,
            self.folder / "near_line.npz", self.folder / "run" / "guards.json", self.clock,
            NearLineMetrics(self.metrics),
        )  # fmt: skip
        near_line.start()
        return near_line

    def promote(self, text: str) -> str:
        trained = self.folder / "trained"
        trained.mkdir(exist_ok=True)
        (trained / "net").write_text(text)
        said = Description(kind="ranker", feature_schema_hash="f", from_ms=0, until_ms=1)
        version = self.registry.publish(trained, said, now_ms=0).version
        self.registry.promote({"ranker": version}, now_ms=0)
        return version

    def serve(self, predict: Predict, model: str, n_pages: int, tilt: Callable[..., np.ndarray] | None = None) -> None:
        """Serve pages, look every fifty, and end when another version serves."""
        for number in range(1, n_pages + 1):
            self.door.submit([event for _, event in self.traffic.page(predict, model=model, tilt=tilt)])
            if number % 50 == 0:
                while self.near_line.turn():
                    pass
                self.near_line.look()
                if self.registry.serving().get("ranker") != model:
                    return

    def folded(self) -> NearLineStore:
        """Return what a replica of the log holds."""
        store = NearLineStore(len(ACTIONS))
        consumer = self.log.subscribe("test", topics=("events.near_line",), start=self.log.begin())
        while len(records := consumer.poll(100)):
            store.apply(decode_records(records, CODEC.decode)[0])
        return store


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [scrambled, threefold, blind])
def test_a_planted_fault_is_rolled_back_with_its_reason(house: House, fault: Predict) -> None:
    old = house.promote("old")
    house.serve(good, old, 150)
    new = house.promote("new")
    house.serve(fault, new, 500)
    assert house.registry.serving() == {"ranker": old}
    last = house.registry.history()[-1]
    assert last.what == "rolled back"
    assert last.note.startswith("guard ")
    assert ("ranker", new) in house.registry.withdrawn()
    assert b"millrace_guard_rollbacks_total{guard=" in house.metrics.render()
    house.near_line.publish()
    told = house.log.subscribe("reader", topics=("events.models",), start=house.log.begin()).poll(10)
    (said,) = [event.payload for event in decode_records(told, CODEC.decode)[0].events]
    assert isinstance(said, ModelWithdrawn)
    assert (said.version, said.instead, said.reason) == (new, old, last.note)
    house.serve(good, old, 100)
    assert house.registry.serving() == {"ranker": old}
    report = read_report(Settings(house.folder, MillraceConfig()))
    assert report is not None
    assert [model.model for model in report.models] == [old]
    assert list(report.withdrawn) == [f"ranker {new}"]


def killed_after_the_first_write(house: House, version: str, reason: str) -> None:
    """Write down that a ranker is withdrawn, and no more."""
    pointer = house.registry.pointer()
    assert pointer is not None
    said = Withdrawal(at_ms=0, serial=pointer.change.serial, kind="ranker", version=version, reason=reason)
    withdrawal_lines(house.registry.root / WITHDRAWN_FILE).append(said)


def withdrawals_told(house: House) -> list[ModelWithdrawn]:
    records = house.log.subscribe("reader", topics=("events.models",), start=house.log.begin()).poll(10)
    payloads = [event.payload for event in decode_records(records, CODEC.decode)[0].events]
    return [payload for payload in payloads if isinstance(payload, ModelWithdrawn)]


def test_a_withdrawal_that_a_kill_cut_in_two_is_finished_and_told_once(house: House) -> None:
    old, new = house.promote("old"), house.promote("new")
    killed_after_the_first_write(house, new, "guard auc: AUC of like is 0.4")
    assert house.registry.serving() == {"ranker": new}
    house.near_line.look()
    assert house.registry.serving() == {"ranker": old}
    assert house.registry.history()[-1].note == "guard auc: AUC of like is 0.4"
    assert withdrawals_told(house) == []
    house.near_line = house.begin()  # killed before it could tell the log
    house.near_line.look()
    house.near_line.publish()
    (said,) = withdrawals_told(house)
    assert (said.version, said.guard, said.instead) == (new, "auc", old)
    house.near_line = house.begin()
    house.near_line.look()
    house.near_line.publish()
    assert len(withdrawals_told(house)) == 1
    house.registry.promote({"ranker": new}, now_ms=1)  # a person says that it is good all the same
    house.near_line.look()
    assert house.registry.serving() == {"ranker": new}


def test_what_was_rolled_back_by_hand_is_no_event(house: House) -> None:
    house.promote("old")
    house.promote("new")
    house.registry.rollback(now_ms=0)
    house.near_line.look()
    house.near_line.publish()
    assert withdrawals_told(house) == []


@pytest.mark.slow
def test_a_good_ranker_stays_whatever_the_seed(tmp_path: Path) -> None:
    for seed in range(2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        house = House(folder, seed)
        old = house.promote("old")
        house.serve(good, old, 100)
        new = house.promote("new")
        house.serve(good, new, 150)
        assert house.registry.serving() == {"ranker": new}
        assert house.registry.withdrawn() == {}


def guards_of(house: House) -> GuardReport:
    house.near_line.look()
    report = read_report(Settings(house.folder, MillraceConfig()))
    assert report is not None
    return report


def test_what_the_guards_have_gathered_outlives_their_process(house: House, caplog: pytest.LogCaptureFixture) -> None:
    old = house.promote("old")
    house.serve(good, old, 100)
    house.near_line.keep()
    before = guards_of(house)
    assert before.models[0].n_rows > GUARDS.min_rows
    house.near_line = house.begin()  # killed: what it kept is all there is
    assert guards_of(house).models == before.models
    assert not caplog.messages
    # Heard again is what came after it was kept, and that alone.
    house.serve(good, old, 50)
    n_rows = guards_of(house).models[0].n_rows
    house.near_line = house.begin()
    while house.near_line.turn():
        pass
    assert guards_of(house).models[0].n_rows == n_rows


def test_guards_of_other_settings_gather_anew_and_say_so_once(house: House, caplog: pytest.LogCaptureFixture) -> None:
    old = house.promote("old")
    house.serve(good, old, 50)
    house.near_line.keep()
    house.guards = msgspec.structs.replace(GUARDS, max_calibration=3.0)
    house.near_line = house.begin()
    assert guards_of(house).models == ()
    (line,) = caplog.messages
    assert "what the guards had gathered cannot be used (ValueError('of other settings')" in line
    assert house.near_line.position == house.log.end()  # what was learned is there


@pytest.mark.slow
def test_a_fault_whose_evidence_is_divided_by_kills_is_taken_away_all_the_same(house: House) -> None:
    old = house.promote("old")
    house.serve(good, old, 150)
    new = house.promote("new")
    for _ in range(12):
        if house.registry.serving() == {"ranker": old}:
            break
        house.serve(scrambled, new, 50)
        house.near_line.keep()
        house.near_line = house.begin()
    assert house.registry.serving() == {"ranker": old}
    # Taken away stays taken away over a restart: nothing more is said of it.
    house.near_line = house.begin()
    assert [model.model for model in guards_of(house).models] == [old]


@pytest.mark.slow
def test_what_a_person_rolled_back_is_no_measure_of_what_comes_after_it(house: House) -> None:
    old = house.promote("old")
    house.serve(good, old, 150)
    bad = house.promote("bad")
    house.serve(scrambled, bad, 50)
    house.registry.rollback(now_ms=0)
    house.serve(good, old, 50)
    report = read_report(Settings(house.folder, MillraceConfig()))
    assert report is not None
    assert [model.model for model in report.models] == [old]
    house.registry.promote({"ranker": bad}, now_ms=0)  # and who promotes it again has it watched as new
    house.serve(good, bad, 100)
    report = read_report(Settings(house.folder, MillraceConfig()))
    assert report is not None
    assert [model.model for model in report.models] == [old, bad]


@pytest.mark.slow
def test_where_there_is_no_good_one_before_counters_rank(house: House) -> None:
    first = house.promote("first")
    house.serve(scrambled, first, 500)
    assert house.registry.serving() == {}


@pytest.mark.slow
def test_guards_that_may_only_warn_leave_it_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = House(tmp_path, guards=GuardsConfig(n_confirm=2, rolls_back=False))
    first = house.promote("first")
    house.serve(scrambled, first, 400)
    assert house.registry.serving() == {"ranker": first}
    assert [r.message.startswith(f"ranker {first} should go (guard ") for r in caplog.records] == [True]


def liked_posts(posts: np.ndarray) -> np.ndarray:
    return np.where(posts % 5 == 0, 1.5, -0.5)


def test_what_is_told_is_what_replicas_hold_also_after_a_kill(house: House) -> None:
    house.serve(good, "m", 250, liked_posts)
    house.near_line.publish()
    told = house.folded().layer("m")
    assert told is not None
    assert told.fast_gates[Action.DWELL] == 1
    house.near_line.keep()
    kept_at = house.near_line.position
    house.serve(good, "m", 50, liked_posts)  # heard by the one that is killed now
    again = house.near_line = house.begin()
    assert again.position == kept_at
    while again.turn():
        pass
    again.publish()
    whole = NearLine(
        house.log, CODEC, house.clock, NearLineLearner(CONFIG, house.traffic.hasher, ACTIONS), None, house.registry,
        house.door, CONFIG, house.guards, house.folder / "other.npz", house.folder / "other.json", house.clock,
    )  # fmt: skip
    whole._consumer.seek((0,))
    while whole.turn():
        pass
    found, expected = (learner.layers["m"].arrays()["table.weights"] for learner in (again._learner, whole._learner))
    # Pages that were open at the kill are not heard of again; nearly everything else is the same.
    assert np.corrcoef(found[found != 0], expected[found != 0])[0, 1] > 0.99
    replica, open_heads = house.folded().layer("m"), again._learner.layers["m"].fast_gain.is_open
    assert replica is not None
    assert (replica.weights[:, open_heads] == found[:, open_heads]).all()


def test_what_the_log_would_not_take_is_told_when_it_does(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_events: object) -> None:
        raise LogError("log", problem="the disk is full", remedy="make room")

    house.near_line._published_s = float("inf")  # by hand alone
    house.serve(good, "m", 250, liked_posts)
    with monkeypatch.context() as broken:
        broken.setattr(house.door, "submit", full)
        for _ in range(2):
            with pytest.raises(LogError, match="full"):
                house.near_line.publish()
    assert house.folded().layer("m") is None
    assert house.near_line.publish() > 0
    told = house.folded().layer("m")
    assert told is not None
    assert told.fast_gates[Action.DWELL] == 1


def test_a_file_of_another_log_is_left_alone(house: House, caplog: pytest.LogCaptureFixture) -> None:
    (house.folder / "near_line.npz").write_bytes(b"nonsense")
    near_line = house.begin()
    assert near_line.position == house.log.end()
    assert "it begins anew" in caplog.text


def test_nobody_has_looked_in_a_new_home(tmp_path: Path) -> None:
    assert read_report(Settings(tmp_path, MillraceConfig())) is None


def test_lag_is_told_by_what_is_kept(house: House) -> None:
    house.serve(good, "m", 50)
    house.near_line.keep()
    assert house.log.lag(GROUP) <= 1
    assert total(house.near_line.position) > 0


@pytest.mark.slow
def test_the_command_tells_what_the_guards_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings, _ = make_home(tmp_path / "home")
    told = ["flywheel", "guards", "--home", str(settings.home)]
    assert cli.run(told) == 0
    assert "No guard has looked yet" in capsys.readouterr().out
    house = House(settings.home)
    version = house.promote("first")
    house.serve(good, version, 100)
    assert cli.run(told) == 0
    said = capsys.readouterr().out
    assert version in said
    assert "calibration" in said
    assert "waiting" in said
    assert cli.run([*told, "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out)
    (model,) = report["models"]
    assert model["model"] == version
    assert {reading["guard"] for reading in model["readings"]} >= {"auc", "calibration", "prediction_drift"}
    assert report["cpu_share"] >= 0
