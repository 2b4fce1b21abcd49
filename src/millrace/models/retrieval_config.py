"""What the two towers are: their sizes, and what of a post they read. Written beside what is served."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace

from millrace.features.encoding.posts import POST_TRAITS
from millrace.models.config import RankerConfig, TrunkConfig

PostPart = Literal["content", "author", "post", "sids", "language", "text", "traits"]

COLD: Final[tuple[PostPart, ...]] = ("content", "author", "sids", "language", "text", "traits")
"""What a post has from its first second. Rows of its id it does not have: they are learned from who acted on it."""

IDS: Final[tuple[PostPart, ...]] = ("post",)
"""The post's id and nothing else: collaborative filtering, to compare with."""


class RetrievalConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tower for viewers and one for posts, whose vectors are compared by their inner product.

    Attributes
    ----------
    trunk
        Of the viewers' tower; its tables are those of both.
    actions
        Names of the actions in histories, in `Action` order.
    n_profile_dense
        Dense fields of a profile.
    schema
        Hash of the inputs' meaning (`millrace.features.encoding.candidates.schema_hash`).
    semantic_ids
        Digest of the codebooks whose codes are read; empty where none are.
    """

    trunk: TrunkConfig = TrunkConfig()
    width: Annotated[int, Meta(ge=4, description="length of both towers' vectors; a multiple of 4 serves best")] = 64
    hidden: Annotated[int, Meta(ge=1, description="hidden width of the posts' tower")] = 128
    reads: Annotated[tuple[PostPart, ...], Meta(description="what is read of a post, in histories too")] = COLD
    actions: tuple[str, ...] = ()
    n_profile_dense: int = 4
    schema: str = ""
    semantic_ids: str = ""

    @property
    def inputs(self) -> RankerConfig:
        """The layout of viewers' inputs, which is the ranker's; its candidates are posts with `POST_TRAITS`.

        Social vectors have no place: they are refreshed all the time, and each time every post would be another one.
        """
        return RankerConfig(
            trunk=replace(self.trunk, social_width=0, media_width=0),
            actions=self.actions,
            n_dense=len(POST_TRAITS),
            n_profile_dense=self.n_profile_dense,
            schema=self.schema,
            semantic_ids=self.semantic_ids,
        )

    @property
    def post_width(self) -> int:
        """Floats of a post: content, post, author, semantic id, language, text vector, traits."""
        return 5 * self.trunk.tables.width + self.trunk.text_width + len(POST_TRAITS)

    def history_places(self) -> tuple[list[int], list[int]]:
        """Return which floats a history token and a post have both, as places in the one and in the other, in order."""
        width, n_text = self.trunk.tables.width, self.trunk.text_width
        tables = list(range(4 * width))
        # Between its tables and its text vector a post has its language, a token has not.
        return list(range(4 * width + n_text)), tables + list(range(5 * width, 5 * width + n_text))

    def read_of_post(self) -> list[bool]:
        """Return which of a post's floats are read, ``post_width`` of them."""
        read = self._read("content", "post", "author", "sids", "language")
        return read + ["traits" in self.reads] * len(POST_TRAITS)

    def read_of_history(self) -> list[bool]:
        """Return which floats of a history token are read, `RankerConfig.history_width` of them; authors never are.

        Most of what people act on is by whom they follow already, because that is what they are shown: towers that can
        tell the same author again learn who follows whom, and find nothing by strangers.
        """
        read = self._read("content", "post", None, "sids")
        return read + [True] * (self.inputs.history_width - len(read))

    def _read(self, *parts: PostPart | None) -> list[bool]:
        """Return which floats are read of some parts out of tables, and of the text vector behind them."""
        read = [part in self.reads for part in parts for _ in range(self.trunk.tables.width)]
        return read + ["text" in self.reads] * self.trunk.text_width
