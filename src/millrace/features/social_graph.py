"""`SocialGraph`: what the social encoder reads, taken from the stores: who follows whom, and what they write about."""

from __future__ import annotations

from typing import NamedTuple

from millrace.content.text_index import TextIndex
from millrace.content.text_kernels import HAS_VECTOR
from millrace.features.follow_edges import FollowEdges, edges_of
from millrace.features.social_network import UserContent
from millrace.features.user_content import mean_content
from millrace.stores.follow_graph import FollowGraph


class SocialGraph(NamedTuple):
    """The follow graph at one moment, and what else is known of its users.

    Attributes
    ----------
    edges
        Everybody who follows, is followed, or wrote a post that is still here.
    known
        Their content vectors: the mean direction of those posts. What they liked is left to their histories.
    """

    edges: FollowEdges
    known: UserContent

    @classmethod
    def of(cls, graph: FollowGraph, texts: TextIndex) -> SocialGraph:
        """Return the graph as the stores have it now; a copy."""
        index = texts.by_row()
        is_told = (index.flags & HAS_VECTOR != 0) & (index.post_ids != 0)
        authors = index.author_ids[is_told]
        edges = edges_of(graph, authors)
        return cls(edges, UserContent(mean_content(edges.user_ids, authors, index.vectors[is_told])))
