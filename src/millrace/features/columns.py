"""Every column of the feed pipelines, declared once: import the constant, never repeat the name.

A safety flag's fill is the unsafe value: a row that nobody could check is treated as if it failed the check.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from millrace.pipeline.column import Column

N_ACTIONS_DIM: Final = "n_actions"
"""Trailing size of per-action columns: built-in actions, then business actions."""

N_COUNTERS_DIM: Final = "n_counters"
"""Trailing size of counter columns: ``n_actions``, and impressions last."""

N_DENSE_DIM: Final = "n_dense"
"""Trailing size of a candidate's bytes for models (`millrace.features.encoding.candidates.dense_fields`)."""

MAX_TOPICS: Final = 3
MAX_PROOFS: Final = 3

_ID: Final = np.dtype(np.int64)
_SCORE: Final = np.dtype(np.float32)
_FLAG: Final = np.dtype(np.bool_)
_CODE: Final = np.dtype(np.int32)

# ------------------------------------------------------------------------------------------ what a post is
POST_ID: Final = Column("post_id", _ID, 0, doc="inside id of the post: the key")
HAS_POST: Final = Column("has_post", _FLAG, 0, doc="the post store has it: neither deleted nor expired")
IS_DELETED: Final = Column("is_deleted", _FLAG, 1, doc="deleted by its author or a moderator")
AUTHOR_ID: Final = Column("author_id", _ID, 0, doc="who published it (of a repost: the reposter)")
CREATED_MS: Final = Column("created_ms", _ID, 0, doc="when it was published")
KIND: Final = Column("kind", np.dtype(np.int8), 0, doc="0 original, 1 reply, 2 repost, 3 quote")
PARENT_ID: Final = Column("parent_id", _ID, 0, doc="the post replied to, reposted or quoted; 0 for originals")
PARENT_AUTHOR_ID: Final = Column("parent_author_id", _ID, 0, doc="its author; 0 for originals or where unknown")
CONVERSATION_ID: Final = Column("conversation_id", _ID, 0, doc="root of the thread")
CONTENT_ID: Final = Column("content_id", _ID, 0, doc="what a viewer would see: the reposted post, else the post itself")
CONTENT_CREATED_MS: Final = Column(
    "content_created_ms", _ID, 0, doc="when what a viewer would see was published; 0 where that is not known any more"
)
IS_PARENT_DELETED: Final = Column(
    "is_parent_deleted", _FLAG, 1, doc="the post replied to, reposted or quoted was deleted"
)
HAS_VIDEO: Final = Column("has_video", _FLAG, 0, doc="a video is attached")
DURATION_MS: Final = Column("duration_ms", np.dtype(np.int32), 0, doc="length of its video or audio; 0 for none")
IS_SENSITIVE: Final = Column("is_sensitive", _FLAG, 1, doc="it or the post that it carries is marked as sensitive")
IS_UNSAFE: Final = Column("is_unsafe", _FLAG, 1, doc="carries a safety label that hides it from everybody")
IS_UNSAFE_FOR_STRANGERS: Final = Column(
    "is_unsafe_for_strangers", _FLAG, 1, doc="carries a safety label that hides it from those who do not follow"
)
SAFETY_LABELS: Final = Column(
    "safety_labels",
    np.dtype(np.uint64),
    0,
    doc="one bit a label code: the safety labels of it, its author and its parent",
)
LANGUAGE: Final = Column("language", _CODE, 0, doc="language code; 0 unknown")
TOPICS: Final = Column("topics", _CODE, 0, (MAX_TOPICS,), doc="topic codes of the content, strongest first; 0 none")
AUTHOR_FOLLOWERS: Final = Column("author_followers", _CODE, 0, doc="how many follow its author")
AUTHOR_REPUTATION: Final = Column(
    "author_reputation",
    _SCORE,
    1.0,
    doc="how far its author is trusted, 0 to 1; 1 is neutral: nothing is held against it",
)

# ------------------------------------------------------------------------------- what it is to this viewer
IS_IN_NETWORK: Final = Column("is_in_network", _FLAG, 0, doc="by the viewer or by somebody the viewer follows")
IS_MUTUAL: Final = Column("is_mutual", _FLAG, 0, doc="the viewer and its author follow each other")
N_PROOFS: Final = Column("n_proofs", _CODE, 0, doc="how many of those the viewer follows engaged with it")
PROOF_IDS: Final = Column("proof_ids", _ID, 0, (MAX_PROOFS,), doc="some of them, newest first; 0 none")
PROOF_ACTIONS: Final = Column(
    "proof_actions", np.dtype(np.int16), -1, (MAX_PROOFS,), doc="what each of them did last; -1 none or not known"
)
AUTHOR_AFFINITY: Final = Column(
    "author_affinity", _SCORE, 0.0, doc="the viewer's decayed positive actions on the author's posts"
)
TEXT_TASTE: Final = Column(
    "text_taste", _SCORE, 0.0, doc="likeness of its text to those of the viewer's newest likes, 0 to 1"
)
RETRIEVAL_SCORE: Final = Column(
    "retrieval_score", _SCORE, 0.0, doc="how well it fits, by the first source that gave a score; comparable within one"
)

# ---------------------------------------------------------------------------- evidence, predictions, value
HEAT: Final = Column("heat", _SCORE, 0.0, doc="decayed weighted positive actions of everybody; 0 if not popular")
POST_COUNTS: Final = Column(
    "post_counts", _SCORE, 0.0, (N_COUNTERS_DIM,), doc="viewers who did each action to the content; impressions last"
)
AUTHOR_COUNTS: Final = Column(
    "author_counts", _SCORE, 0.0, (N_COUNTERS_DIM,), doc="the same over all posts of its author"
)
TOPIC_COUNTS: Final = Column(
    "topic_counts", _SCORE, 0.0, (N_COUNTERS_DIM,), doc="the same over all posts of its strongest topic"
)
OBSERVED_COUNTS: Final = Column(
    "observed_counts", _SCORE, 0.0, (N_COUNTERS_DIM,), doc="totals of the content known from elsewhere"
)
ACTION_PROBS: Final = Column(
    "action_probs",
    _SCORE,
    0.0,
    (N_ACTIONS_DIM,),
    doc="P(action | shown) in Action order; for continuous actions the expected amount",
)
PRERANK_SCORE: Final = Column(
    "prerank_score", _SCORE, 0.0, doc="score by the pre-ranker's predictions: who is worth the ranker's time"
)
COUNTED_PROBS: Final = Column(
    "counted_probs",
    _SCORE,
    0.0,
    (N_ACTIONS_DIM,),
    doc="what the counters-based ranker predicted, where a model took its place; zeros where none did",
)
DEEP_PROBS: Final = Column(
    "deep_probs",
    _SCORE,
    0.0,
    (N_ACTIONS_DIM,),
    doc="what the learned ranker predicted, where the near-line layer changed it; zeros where nothing did",
)
FAST_SHIFTS: Final = Column(
    "fast_shifts",
    _SCORE,
    0.0,
    (N_ACTIONS_DIM,),
    doc="what the fast layer added to the log-odds of each action; the rest of the change is calibration",
)
INPUT_DENSE: Final = Column(
    "input_dense",
    np.dtype(np.uint8),
    0,
    (N_DENSE_DIM,),
    doc="bytes that models read of it; zeros where it was not encoded (an encoded row never is)",
)
INPUT_LANGUAGE: Final = Column("input_language", np.dtype(np.uint8), 0, doc="row of its language, as models read it")
VALUE: Final = Column("value", _SCORE, 0.0, doc="sum over actions of weight x prediction")
OFFSET_VALUE: Final = Column("offset_value", _SCORE, 0.0, doc="value brought above 0, order kept")
SOCIAL_BONUS: Final = Column("social_bonus", _SCORE, 0.0, doc="added for followed authors and for social proof")
RECENCY_FACTOR: Final = Column("recency_factor", _SCORE, 1.0, doc="multiplier for age")
LIFT_FACTOR: Final = Column("lift_factor", _SCORE, 1.0, doc="multiplier of the one new author's post that is lifted")
AUTHOR_FACTOR: Final = Column("author_factor", _SCORE, 1.0, doc="multiplier for an author's second, third ... post")
NETWORK_FACTOR: Final = Column("network_factor", _SCORE, 1.0, doc="multiplier for posts by strangers")
SCORE: Final = Column("score", _SCORE, 1.0, doc="offset value through all bonuses and multipliers so far")
DIVERSITY: Final = Column(
    "diversity", np.dtype(np.int8), 0, doc="re-ranking: 0 not looked at, 1 chosen, -1 passed over for being like others"
)
PAGE_SCORE: Final = Column(
    "page_score", _SCORE, 0.0, doc="place after re-ranking, counted from the last, which has 1; 0: not re-ranked"
)

# ------------------------------------------------------------------------------------------- the slate only
HAS_CONTENT: Final = Column("has_content", _FLAG, 0, doc="the content store gave its text")
