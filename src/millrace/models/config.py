"""What a network is: sizes by preset, and how it is trained. Written into the manifest of every artefact."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from millrace.base.errors import ConfigError
from millrace.base.surfaces import N_SURFACES as N_SURFACES
from millrace.content.ngrams import N_TOKEN_ROWS
from millrace.content.vectors import N_DIMS
from millrace.features.encoding.history import MAX_HISTORY

Preset = Literal["nano", "small", "large"]


class TableConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rows of the hashed embedding tables, and their width; row 0 of each is padding."""

    width: Annotated[int, Meta(ge=1)] = 32
    n_token_rows: Annotated[int, Meta(ge=2)] = N_TOKEN_ROWS
    n_post_rows: Annotated[int, Meta(ge=2)] = 1 << 16
    n_author_rows: Annotated[int, Meta(ge=2)] = 1 << 14
    n_sid_levels: Annotated[int, Meta(ge=0, description="levels of semantic ids; 0: none are read")] = 0
    n_sid_codes: Annotated[int, Meta(ge=1)] = 64


class TrunkConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A transformer over profile, history and candidates."""

    d: Annotated[int, Meta(ge=8)] = 64
    n_layers: Annotated[int, Meta(ge=1)] = 2
    n_heads: Annotated[int, Meta(ge=1)] = 4
    ffn_factor: Annotated[int, Meta(ge=1)] = 4
    max_history: Annotated[int, Meta(ge=1)] = MAX_HISTORY
    tables: TableConfig = TableConfig()
    social_width: Annotated[int, Meta(ge=0, description="width of social vectors; 0: none are read")] = 0
    media_width: Annotated[int, Meta(ge=0, description="width of media vectors; 0: none are read")] = 0
    text_width: Annotated[
        int, Meta(ge=0, description="width of the posts' text vectors, made or annotated; 0: none are read")
    ] = 0

    @property
    def n_media(self) -> int:
        """Floats of a post's media: the vector and whether there is one."""
        return self.media_width + 1 if self.media_width else 0

    def check(self) -> None:
        """Raise `ConfigError` unless the heads divide the width into even parts."""
        if self.d % (2 * self.n_heads):
            raise ConfigError(
                "trunk width",
                value=self.d,
                problem=f"not a multiple of twice the {self.n_heads} heads",
                remedy="choose d and n_heads so that d / n_heads is even",
            )


PRESETS: Final[dict[str, TrunkConfig]] = {
    "nano": TrunkConfig(text_width=N_DIMS),
    "small": TrunkConfig(
        text_width=N_DIMS, d=128, n_layers=2, n_heads=4, tables=TableConfig(width=64, n_author_rows=1 << 16)
    ),
    "large": TrunkConfig(
        text_width=N_DIMS,
        d=512,
        n_layers=6,
        n_heads=8,
        tables=TableConfig(width=128, n_post_rows=1 << 20, n_author_rows=1 << 20),
    ),
}


class RankerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ranker: a trunk, what it reads, and what it predicts.

    Attributes
    ----------
    actions
        Names of the heads, in `Action` order.
    n_dense
        Dense fields of a candidate.
    n_profile_dense
        Dense fields of a profile.
    counters
        By head, the share of the counters' log-odds that is added to the network's (`millrace.models.blending`); none:
        the network alone.
    scales
        By head, the slope and the shift that calibration built into it; none: not calibrated. No runner reads it:
        whoever learns on takes them out again.
    schema
        Hash of the inputs' meaning (`millrace.features.encoding.candidates.schema_hash`).
    semantic_ids, social
        Digests of the codebooks and of the social encoder whose codes and vectors it reads; empty where it reads none.
    """

    trunk: TrunkConfig = TrunkConfig()
    actions: tuple[str, ...] = ()
    n_dense: int = 0
    n_profile_dense: int = 4
    schema: str = ""
    counters: tuple[float, ...] = ()
    scales: tuple[tuple[float, float], ...] = ()
    semantic_ids: str = ""
    social: str = ""

    @property
    def history_width(self) -> int:
        """Floats of a history token: content, post, author, semantic id, text, actions, dense, surface, media."""
        trunk = self.trunk
        return 4 * trunk.tables.width + trunk.text_width + len(self.actions) + 3 + N_SURFACES + trunk.n_media

    @property
    def profile_width(self) -> int:
        """Floats of a profile: languages, biography, social vector, dense."""
        return 2 * self.trunk.tables.width + self.trunk.social_width + self.n_profile_dense

    @property
    def candidate_width(self) -> int:
        """Floats of a candidate: content, post, author, semantic id, language, text, author's social, media, dense."""
        trunk = self.trunk
        return 5 * trunk.tables.width + trunk.text_width + trunk.social_width + trunk.n_media + self.n_dense

    @property
    def scored_width(self) -> int:
        """Floats of a candidate as it is scored: all but the dense ones projected to the trunk's width, then those."""
        return self.trunk.d + self.n_dense


class PreRankerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pre-ranker: how wide its vectors are, what it reads, and what it predicts.

    Attributes
    ----------
    d
        Width of a post's vector, and of a candidate's: its text, post, author and language, added up.
    n_hidden
        Units between a candidate and the heads: what a candidate costs.
    n_interests
        Vectors that a history becomes; they cost nothing a candidate.
    n_dense, n_profile_dense, actions, schema
        As of `RankerConfig`.
    """

    d: Annotated[int, Meta(ge=4)] = 32
    n_hidden: Annotated[int, Meta(ge=4)] = 64
    n_interests: Annotated[int, Meta(ge=1)] = 8
    max_history: Annotated[int, Meta(ge=1)] = MAX_HISTORY
    tables: TableConfig = TableConfig()
    actions: tuple[str, ...] = ()
    n_dense: int = 0
    n_profile_dense: int = 4
    schema: str = ""

    @property
    def history_width(self) -> int:
        """Floats of a history token: the post's vector with its author's, actions, dense, surface."""
        return self.d + len(self.actions) + 3 + N_SURFACES

    @property
    def profile_width(self) -> int:
        """Floats of a profile: languages, biography, dense."""
        return 2 * self.d + self.n_profile_dense

    @property
    def candidate_width(self) -> int:
        """Floats of a candidate: its vector, dense."""
        return self.d + self.n_dense

    @property
    def served_tables(self) -> TableConfig:
        """The tables as they are served: each row is what the network makes of it, ``d`` wide."""
        return replace(self.tables, width=self.d)


def preset(name: str, **changes: int) -> TrunkConfig:
    """Return the trunk of a preset, with some of its own sizes changed.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError("preset", value=name, problem="not known", remedy=f"use one of {', '.join(PRESETS)}")
    return replace(PRESETS[name], **changes)
