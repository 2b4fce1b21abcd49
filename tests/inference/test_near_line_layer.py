"""The near-line layer and its fold: kernel and reference agree, untouched heads stay, updates are absolute."""

from __future__ import annotations

from typing import Any

import numpy as np

from millrace.base.actions import ActionSpace
from millrace.events.near_line_events import NearLineUpdated
from millrace.events.packed import pack_arrays
from millrace.inference.near_line_layer import MAX_FAST_SHIFT, NearLineLayer, corrected, corrected_reference
from millrace.inference.near_line_store import MAX_MODELS, NearLineStore
from millrace.stores.fold import EventBatch
from millrace.testing.builders import an_event

H = len(ActionSpace())


def a_layer(seed: int = 1, n_slots: int = 64) -> NearLineLayer:
    rng = np.random.default_rng(seed)
    return NearLineLayer(
        slopes=rng.uniform(0.5, 2, H).astype(np.float32),
        shifts=rng.normal(0, 1, H).astype(np.float32),
        is_calibrated=(np.arange(H) % 2).astype(np.uint8),
        fast_gates=(np.arange(H) % 3 == 0).astype(np.float32),
        weights=rng.normal(0, 1.5, (n_slots, H)).astype(np.float32),
    )


def some_probs(n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    probs = rng.random((n, H)).astype(np.float32)
    probs[0], probs[1] = 0, 1
    return probs, rng.integers(0, 64, (n, 6)).astype(np.int32)


def test_the_kernel_is_the_reference() -> None:
    probs, slots = some_probs()
    every: tuple[dict[str, Any], ...] = ({}, {"fast_weight": 0.3}, {"calibrates": False}, {"fast_weight": 0.0})
    for options in every:
        found = corrected(a_layer(), probs, slots, **options)
        expected = corrected_reference(a_layer(), probs, slots, **options)
        np.testing.assert_allclose(found[0], expected[0], atol=2e-6)
        np.testing.assert_allclose(found[1], expected[1], atol=2e-6)


def test_untouched_heads_stay_bit_for_bit_and_shifts_are_bounded() -> None:
    probs, slots = some_probs()
    layer = a_layer()
    out, fast = corrected(layer, probs, slots)
    stays = (layer.is_calibrated == 0) & (layer.fast_gates == 0)
    assert stays.any()
    assert out[:, stays].tobytes() == probs[:, stays].tobytes()
    assert np.abs(fast).max() == np.float32(MAX_FAST_SHIFT)
    assert (fast[:, layer.fast_gates == 0] == 0).all()
    assert (corrected(layer, probs, slots, fast_weight=0, calibrates=False)[0] == probs).all()


def an_update(model: str, layer: NearLineLayer, slots: list[int], n_heads: int = H, **more: Any) -> NearLineUpdated:
    heads = {name: getattr(layer, name)[:n_heads] for name in ("slopes", "shifts", "is_calibrated", "fast_gates")}
    weights = layer.weights[slots][:, :n_heads]
    arrays = pack_arrays({**heads, "slots": np.array(slots, np.int32), "weights": weights})
    return NearLineUpdated(model=model, n_slots=len(layer.weights), arrays=arrays, **more)


def folded(*updates: NearLineUpdated, store: NearLineStore | None = None, n_heads: int = H) -> NearLineStore:
    store = store or NearLineStore(n_heads)
    events = [an_event(update, event_id=f"u{i}") for i, update in enumerate(updates)]
    store.apply(EventBatch(events, np.arange(len(events)), np.zeros(len(events), np.int64)))
    return store


def weights_of(store: NearLineStore, model: str = "m") -> np.ndarray:
    layer = store.layer(model)
    assert layer is not None
    return layer.weights


def test_updates_are_absolute_and_a_reset_forgets() -> None:
    layer = a_layer()
    store = folded(an_update("m", layer, [3, 9]), an_update("m", layer, [3]), an_update("m", layer, [5]))
    held = weights_of(store)
    assert (held[[3, 5, 9]] == layer.weights[[3, 5, 9]]).all()
    assert np.flatnonzero(held.any(axis=1)).tolist() == [3, 5, 9]
    folded(an_update("m", layer, [], is_reset=True), store=store)
    assert not weights_of(store).any()
    assert len(weights_of(store)) == 1  # a table is made with its first weights


def test_a_restored_store_is_the_same_and_layers_are_bounded() -> None:
    updates = [an_update(f"m{i}", a_layer(i), [i]) for i in range(MAX_MODELS + 2)]
    store = folded(*updates, an_update("m2", a_layer(2), [8]))
    assert store.models == ("m3", "m4", "m5", "m2")
    again = NearLineStore(H)
    again.load({name: array.copy() for name, array in store.arrays().items()})
    assert {n: a.tobytes() for n, a in again.arrays().items()} == {n: a.tobytes() for n, a in store.arrays().items()}
    assert NearLineStore(H).layer("m") is None


def test_actions_that_were_appended_since_are_left_alone() -> None:
    store = folded(an_update("m", a_layer(), [3], n_heads=H - 2))
    layer = store.layer("m")
    assert layer is not None
    assert layer.slopes[-2:].tolist() == [1, 1]
    assert (layer.weights[3, -2:] == 0).all()
    assert layer.weights.shape == (64, H)


def test_damaged_updates_change_nothing() -> None:
    layer = a_layer()
    good = an_update("m", layer, [3])
    store = folded(good)
    before = {n: a.tobytes() for n, a in store.arrays().items()}
    bad = [
        NearLineUpdated(model="m", n_slots=64, arrays=b"nonsense"),
        NearLineUpdated(model="m", n_slots=2, arrays=good.arrays),
        NearLineUpdated(model="x", n_slots=64, arrays=pack_arrays({"slots": np.zeros(1, np.int32)})),
    ]
    folded(*bad, store=store)
    assert {n: a.tobytes() for n, a in store.arrays().items()} == before
