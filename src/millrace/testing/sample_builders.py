"""Samples for tests: a small planted world in which viewers like posts about what they liked before."""

from __future__ import annotations

import numpy as np

from millrace.base.actions import Action, ActionSpace
from millrace.content.ngrams import token_rows
from millrace.content.vectors import text_vectors
from millrace.features.encoding.candidates import SCALARS, dense_fields, schema_hash
from millrace.flywheel.sample_set import SET_VERSION, SampleMeta, SampleSet, starts_of

_TEXTS = ("cats and kittens purring", "football goal penalty", "recipe for bread", "telescope sees galaxy")
HOUR_MS = 3_600_000


def planted_samples(n_slates: int = 200, *, n_rows: int = 6, n_history: int = 8, seed: int = 1) -> SampleSet:
    """Return slates of viewers who like three posts of four about their one topic, and hardly any other.

    The topic can be told from the history alone: its posts, all liked, are about it.
    """
    rng = np.random.default_rng(seed)
    actions = ActionSpace()
    n_posts = 40
    topic_of = np.arange(n_posts) % len(_TEXTS)
    posts = np.sort(rng.integers(1, 2**62, n_posts))
    likes = rng.integers(0, len(_TEXTS), n_slates)
    own = np.stack([rng.choice(np.flatnonzero(topic_of == topic), n_history) for topic in likes])
    shown = rng.integers(0, n_posts, (n_slates, n_rows))
    is_own = topic_of[shown] == likes[:, None]
    is_liked = rng.random(shown.shape) < np.where(is_own, 0.75, 0.02)
    labels = np.zeros((n_slates * n_rows, len(actions)), dtype=np.float32)
    labels[:, Action.LIKE] = is_liked.ravel()
    labels[:, Action.DWELL_TIME] = np.where(is_own.ravel(), 12.0, 2.0)
    labels[:, Action.NOT_DWELLED] = ~is_own.ravel()
    n = n_slates * n_rows
    dense = np.zeros((n, len(dense_fields(actions))), dtype=np.uint8)
    dense[:, SCALARS.index("age")] = rng.integers(0, 80, n)
    return SampleSet(
        meta=SampleMeta(
            version=SET_VERSION,
            schema=schema_hash(actions),
            actions=actions.names,
            dense=dense_fields(actions),
            from_ms=0,
            until_ms=n_slates * HOUR_MS,
        ),
        starts=starts_of(np.full(n_slates, n_rows)),
        viewers=rng.integers(1, 2**62, n_slates),
        now_ms=np.arange(n_slates) * HOUR_MS,
        newest_ms=np.arange(n_slates) * HOUR_MS,
        requests=np.arange(1, n_slates + 1),
        history_starts=starts_of(np.full(n_slates, n_history)),
        history_posts=posts[own.ravel()],
        history_authors=np.full(own.size, 7, dtype=np.int64),
        history_actions=np.full(own.size, 1 << Action.LIKE, dtype=np.uint64),
        history_dense=np.zeros((own.size, 3), dtype=np.uint8),
        history_surfaces=np.zeros(own.size, dtype=np.uint8),
        languages=np.ones((n_slates, 4), dtype=np.uint8),
        bios=np.zeros((n_slates, 64), dtype=np.uint16),
        profile_dense=np.zeros((n_slates, 4), dtype=np.uint8),
        post_ids=posts[shown.ravel()],
        author_ids=np.full(n, 9, dtype=np.int64),
        row_languages=np.ones(n, dtype=np.uint8),
        dense=dense,
        positions=np.tile(np.arange(n_rows, dtype=np.int16), n_slates),
        labels=labels,
        weights=np.ones(n, dtype=np.float32),
        baseline=np.full((n, len(actions)), 0.1, dtype=np.float32),
        text_posts=posts,
        text_tokens=token_rows([_TEXTS[topic] for topic in topic_of]),
        text_vectors=text_vectors([_TEXTS[topic] for topic in topic_of]),
    )
