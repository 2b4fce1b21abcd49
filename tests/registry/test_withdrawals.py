"""A version that failed is taken out of every lane, never gone back to, and remembered."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from millrace.registry.errors import RegistryError
from millrace.registry.manifest import Manifest
from millrace.registry.registry import Registry
from millrace.registry.withdrawals import WITHDRAWN_FILE

Publish = Callable[..., Manifest]


def test_a_lane_goes_back_to_the_last_good_version_and_history_says_why(registry: Registry, publish: Publish) -> None:
    one, two, three = (publish(f"weights {i}").version for i in range(3))
    for version in (one, two, three):
        registry.promote({"ranker": version}, now_ms=1)
    made = registry.withdraw("ranker", three, now_ms=5, reason="guard auc: too low")
    assert registry.serving() == {"ranker": two}
    assert list(made) == ["default"]
    last = registry.history()[-1]
    assert (last.what, last.at_ms, last.note, last.versions) == (
        "rolled back",
        5,
        "guard auc: too low",
        {"ranker": two},
    )
    assert registry.withdrawn()["ranker", three].reason == "guard auc: too low"
    registry.withdraw("ranker", two, now_ms=6, reason="worse")
    assert registry.serving() == {"ranker": one}
    registry.withdraw("ranker", one, now_ms=7, reason="worst")
    assert registry.serving() == {}
    assert registry.history()[-1].what == "promoted"
    with pytest.raises(RegistryError, match="nothing to go back to"):
        registry.rollback(now_ms=8)


def test_a_withdrawn_version_is_not_gone_back_to(registry: Registry, publish: Publish) -> None:
    good, bad, newest = (publish(f"weights {i}").version for i in range(3))
    registry.promote({"ranker": good}, now_ms=1)
    registry.promote({"ranker": bad}, now_ms=1)
    registry.withdraw("ranker", bad, now_ms=2, reason="bad")
    registry.promote({"ranker": bad}, now_ms=3, note="a person insists")
    registry.promote({"ranker": newest}, now_ms=4)
    registry.withdraw("ranker", newest, now_ms=5, reason="bad too")
    assert registry.serving() == {"ranker": good}
    assert set(registry.withdrawn()) == {("ranker", bad), ("ranker", newest)}


def test_a_damaged_version_is_not_gone_back_to_and_other_kinds_stay(registry: Registry, publish: Publish) -> None:
    ranker, other = publish("a").version, publish("b").version
    pre_ranker = publish("c", kind="pre_ranker").version
    registry.promote({"ranker": ranker, "pre_ranker": pre_ranker}, now_ms=1)
    registry.promote({"ranker": other}, now_ms=2)
    (registry.folder("ranker", ranker) / "net.onnx").write_text("spoiled")
    registry.withdraw("ranker", other, now_ms=3, reason="bad")
    assert registry.serving() == {"pre_ranker": pre_ranker}


def test_every_lane_that_names_it_is_changed_and_no_other(registry: Registry, publish: Publish) -> None:
    one, two = publish("a").version, publish("b").version
    registry.promote({"ranker": one}, now_ms=1)
    registry.promote({"ranker": two}, "arm-1", now_ms=1)
    registry.promote({"ranker": one}, "arm-2", now_ms=1)
    assert list(registry.withdraw("ranker", two, now_ms=2, reason="bad")) == ["arm-1"]
    assert registry.serving("arm-1") == {"ranker": one}  # what it does not name is the default lane's
    assert registry.withdraw("ranker", "00000009", now_ms=3, reason="of nobody") == {}


def test_a_withdrawal_before_a_crash_is_made_good(registry: Registry, publish: Publish) -> None:
    one, two = publish("a").version, publish("b").version
    registry.promote({"ranker": one}, now_ms=1)
    registry.promote({"ranker": two}, now_ms=1)
    line = registry.root / WITHDRAWN_FILE
    line.write_text(f'{{"at_ms":2,"kind":"ranker","version":"{two}","reason":"killed here"}}\n{{"at_ms":3,"ki')
    registry.withdraw("ranker", two, now_ms=4, reason="again")
    assert registry.serving() == {"ranker": one}
    assert len(line.read_text().splitlines()) >= 1
    line.write_text("nonsense\n")
    with pytest.raises(RegistryError, match="line 1"):
        registry.withdrawn()
