"""Slots of the fast layer: fixed for good, spread evenly, and crosses tell apart what each id alone does not."""

from __future__ import annotations

import numpy as np

from millrace.features.hashed_crosses import FIELDS, N_FIELDS, cross_slots

EXPECTED = [[12445, 54544, 24478, 53834, 49117, 40571], [36611, 53674, 24478, 53834, 55701, 4863]]

IDS = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 4_000)


def test_slots_are_part_of_what_is_kept() -> None:
    slots = cross_slots(7, np.array([11, 12]), np.array([21, -22]), 1, 1 << 16)
    assert slots.dtype == np.int32
    assert slots.tolist() == EXPECTED


def test_each_field_hangs_on_what_its_name_says() -> None:
    base = cross_slots(7, IDS[:1], IDS[1:2], 1, 1 << 20)[0]

    def changed(viewer: int = 7, post: int = 0, author: int = 1, surface: int = 1) -> set[str]:
        slots = cross_slots(viewer, IDS[post : post + 1], IDS[author : author + 1], surface, 1 << 20)[0]
        return {FIELDS[field] for field in np.flatnonzero(slots != base)}

    assert changed() == set()
    assert changed(viewer=8) == {"viewer", "viewer_author"}
    assert changed(post=2) == {"post", "post_surface"}
    assert changed(author=3) == {"author", "viewer_author"}
    assert changed(surface=2) == {"surface", "post_surface"}


def test_they_are_spread_evenly() -> None:
    slots = cross_slots(7, IDS, IDS[::-1], 1, 64)
    assert slots.shape == (4_000, N_FIELDS)
    for field in (0, 1, 4, 5):
        counts = np.bincount(slots[:, field], minlength=64)
        assert counts.min() > 35
        assert counts.max() < 95


def test_no_candidates_have_no_slots() -> None:
    assert cross_slots(7, IDS[:0], IDS[:0], 0, 8).shape == (0, N_FIELDS)
