"""START HERE. The home feed: every stage, in the order in which it runs.

How it runs: `millrace.pipeline.pipeline`. What each stage reads, writes and can be told: ``millrace pipeline show``.
To add a stage, write a class in its folder and name it here; the pipeline checks when it is built that it fits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from millrace.base.actions import ActionSpace
from millrace.base.clock import Clock
from millrace.features.columns import N_ACTIONS_DIM, N_COUNTERS_DIM, N_DENSE_DIM, POST_ID
from millrace.features.encoding.candidates import dense_fields
from millrace.features.encoding.encoders import Encoders
from millrace.features.query_fields import CONTEXT, VIEWER
from millrace.mixer.config import HomeConfig
from millrace.mixer.feed_state import FeedState
from millrace.mixer.filters.age import AgeFilter
from millrace.mixer.filters.carried import CarriedFilter
from millrace.mixer.filters.claims import ClaimedFilter, ClaimFilter, FloorFilter
from millrace.mixer.filters.existence import ContentFilter, DeletedFilter, DeletedParentFilter, HydrationFilter
from millrace.mixer.filters.muted_keywords import MutedKeywordFilter
from millrace.mixer.filters.out_of_network import OutOfNetworkReplyFilter
from millrace.mixer.filters.own import OwnPostsFilter
from millrace.mixer.filters.relations import (
    BlockedAuthorFilter,
    BlockedByAuthorFilter,
    BlockedParentFilter,
    MutedAuthorFilter,
    MutedParentFilter,
)
from millrace.mixer.filters.safety import ReputationFilter, UnsafeFilter
from millrace.mixer.filters.same_content import SameContentFilter
from millrace.mixer.filters.seen import SeenFilter, ServedFilter
from millrace.mixer.filters.viewer_settings import LanguageFilter, SensitiveFilter
from millrace.mixer.home_models import (
    MODELS,
    FixedModels,
    ModelSource,
    VectorsFor,
    nothing_for,
    pre_ranker_of,
    versions_of,
)
from millrace.mixer.hydrators.authors import AuthorHydrator, MutualHydrator, ReputationHydrator
from millrace.mixer.hydrators.content import content_hydrator, names_hydrator
from millrace.mixer.hydrators.core import CoreHydrator
from millrace.mixer.hydrators.counts import CountsHydrator
from millrace.mixer.hydrators.labels import LabelsHydrator
from millrace.mixer.hydrators.proofs import ProofActionsHydrator
from millrace.mixer.hydrators.taste import TasteHydrator
from millrace.mixer.hydrators.viewer import AffinityHydrator, InNetworkHydrator
from millrace.mixer.inputs_log import RankedInputs, SlateInputs
from millrace.mixer.pre_rankers.value_pre_ranker import PrePredictorOf, ValuePreRanker
from millrace.mixer.query_hydrators.claimed import claimed_query_hydrator
from millrace.mixer.query_hydrators.follows import FollowsQueryHydrator
from millrace.mixer.query_hydrators.inputs import ViewerInputsQueryHydrator
from millrace.mixer.query_hydrators.likes import LikesQueryHydrator
from millrace.mixer.query_hydrators.profile import ProfileQueryHydrator
from millrace.mixer.query_hydrators.relations import RelationsQueryHydrator
from millrace.mixer.query_hydrators.seen import SeenQueryHydrator, ServedQueryHydrator
from millrace.mixer.ranked_memory import RankedMemory
from millrace.mixer.rankers.counters_ranker import CountersRanker
from millrace.mixer.rankers.model_ranker import ModelRanker
from millrace.mixer.rankers.near_line import NearLineRanker
from millrace.mixer.rerankers.diversity import DiversityReRanker
from millrace.mixer.selectors.page import PageSelector
from millrace.mixer.side_effects.features_log import LogCandidates, LogFeatures
from millrace.mixer.side_effects.remember_ranked import RememberRanked
from millrace.mixer.side_effects.served_log import LogServed, ServedLogger
from millrace.mixer.sources.co_engagement import CoEngagementSource
from millrace.mixer.sources.editorial import EditorialSource
from millrace.mixer.sources.friends_of_friends import FriendsOfFriendsSource
from millrace.mixer.sources.in_network import InNetworkSource
from millrace.mixer.sources.new_authors import NewAuthorsSource
from millrace.mixer.sources.popular import PopularSource
from millrace.mixer.sources.recent import RecentSource
from millrace.mixer.sources.screen import Screen
from millrace.mixer.sources.second_degree import SecondDegreeSource
from millrace.mixer.sources.similar_content import SimilarContentSource
from millrace.mixer.sources.similar_viewers import SimilarViewersSource
from millrace.mixer.sources.trending import TrendingSource
from millrace.mixer.sources.unserved import UnservedSource
from millrace.mixer.sources.vector import RetrieverOf, VectorSource, no_retriever
from millrace.mixer.value_model.author_decay import AuthorDecay
from millrace.mixer.value_model.lift import NewAuthorLift
from millrace.mixer.value_model.multipliers import OutOfNetworkMultiplier, RecencyMultiplier
from millrace.mixer.value_model.social import SocialBonus
from millrace.mixer.value_model.weighted_sum import WeightedSum
from millrace.pipeline.blueprint import Stages
from millrace.pipeline.outcome import PipelineObserver
from millrace.pipeline.pipeline import Pipeline
from millrace.stores.claims import ClaimStore
from millrace.stores.content_overlay import ContentReader

NAME = "home"


@dataclass(frozen=True, slots=True)
class HomeParts:
    """What the home pipeline is built from.

    Attributes
    ----------
    state
        The stores of this process.
    content
        Reads text and names at the request's log position.
    claims
        Shared by all workers.
    actions
        The known actions.
    clock
        Event time and monotonic time.
    served_logger
        Takes `Served` events; None logs none.
    models
        Gives each page the learned models of its lane.
    vectors_for
        Gives the vectors that a model was trained with, looked up in these stores.
    retriever_of
        What finds posts for a request by learned vectors; None: nothing does.
    pre_ranker_of
        The learned pre-ranker of a request; by default that of its models.
    features_logger
        Takes what models saw of pages and candidates; None logs none.
    revise
        Changes the home pipeline's stages: what simulations put in the place of some; None changes nothing.
    """

    state: FeedState
    content: ContentReader
    claims: ClaimStore
    actions: ActionSpace
    clock: Clock
    served_logger: ServedLogger | None = None
    models: ModelSource = field(default_factory=FixedModels)
    vectors_for: VectorsFor = nothing_for
    retriever_of: RetrieverOf = no_retriever
    pre_ranker_of: PrePredictorOf = pre_ranker_of
    features_logger: ServedLogger | None = None
    revise: Callable[[Stages], Stages] | None = None


def home_stages(parts: HomeParts, config: HomeConfig) -> Stages:
    """Return the stages of the home feed."""
    state, content = parts.state, parts.content
    engagements = state.engagements
    counters, index, histories, tastes = (
        engagements.counters,
        engagements.index,
        engagements.histories,
        engagements.tastes,
    )
    ranked_memory = RankedMemory()
    core, in_network = CoreHydrator(state.posts), InNetworkHydrator()
    labels = LabelsHydrator(state.labels, config.unsafe_labels, config.unsafe_for_strangers_labels)
    unsafe = UnsafeFilter(state.codes.labels.name)
    relations = (
        BlockedAuthorFilter(),
        BlockedByAuthorFilter(),
        MutedAuthorFilter(),
        BlockedParentFilter(),
        MutedParentFilter(),
    )
    own, floor = OwnPostsFilter(), FloorFilter()
    screen = Screen((core, in_network, labels), (own, *relations, floor, unsafe))
    encoders = Encoders.of(state, state.texts, state.profile_texts)
    logs_inputs = parts.features_logger is not None
    counters_ranker, weighted_sum = CountersRanker(parts.actions), WeightedSum(parts.actions)
    pre_ranker = ValuePreRanker(
        parts.pre_ranker_of,
        encoders,
        state.texts,
        counters_ranker,
        (weighted_sum, RecencyMultiplier(), SocialBonus(), OutOfNetworkMultiplier()),
    )
    return Stages(
        query_hydrators=(
            FollowsQueryHydrator(state.follow_graph),
            RelationsQueryHydrator(state.relations),
            SeenQueryHydrator(state.seen),
            ServedQueryHydrator(state.seen),
            claimed_query_hydrator(parts.claims),
            ProfileQueryHydrator(state.profiles),
            LikesQueryHydrator(histories, state.posts, state.profiles, parts.actions),
            ViewerInputsQueryHydrator(encoders.viewers),
        ),
        # In order of priority: where two sources find a post, the earlier one's columns count.
        sources=(
            InNetworkSource(state.posts),
            SecondDegreeSource(index),
            FriendsOfFriendsSource(state.follow_graph, histories, state.posts),
            SimilarViewersSource(tastes, index, state.posts),
            CoEngagementSource(tastes, index, state.posts),
            SimilarContentSource(state.texts, state.posts),
            VectorSource(parts.retriever_of, encoders.viewers, state.posts),
            TrendingSource(counters, state.posts),
            PopularSource(counters, state.posts),
            NewAuthorsSource(state.texts, state.posts, state.profiles, state.follow_graph),
            EditorialSource(state.editorial, state.posts),
            UnservedSource(ranked_memory),
            RecentSource(state.posts, screen),
        ),
        # Duplicates are gone by now: the framework merges what the sources found.
        hydrators=(
            core,
            in_network,
            CountsHydrator(counters),
            AffinityHydrator(histories),
            TasteHydrator(state.texts),
            AuthorHydrator(state.follow_graph),
            MutualHydrator(state.follow_graph),
            ReputationHydrator(),
            labels,
        ),
        filters=(
            HydrationFilter(),
            AgeFilter(),
            own,
            DeletedFilter(),
            DeletedParentFilter(),
            *relations,
            SeenFilter(),
            ServedFilter(),
            ClaimedFilter(),
            floor,
            OutOfNetworkReplyFilter(),
            LanguageFilter(state.codes.languages.name),
            SensitiveFilter(),
            unsafe,
            ReputationFilter(),
            SameContentFilter(),  # last: of a post and its reposts, one that passed everything else stays
        ),
        pre_rankers=(pre_ranker,),
        rankers=(
            counters_ranker,  # what holds where no model has learned yet, or the model fails
            ModelRanker(encoders, state.texts, parts.vectors_for),
            NearLineRanker(state.near_line),
            RankedInputs(encoders.candidates, is_wanted=logs_inputs),
            weighted_sum,
            RecencyMultiplier(),
            SocialBonus(),
            NewAuthorLift(),
            AuthorDecay(),
            OutOfNetworkMultiplier(),
        ),
        re_rankers=(DiversityReRanker(state.texts),),
        selector=PageSelector(),
        late_hydrators=(
            SlateInputs(encoders.candidates, is_wanted=logs_inputs),
            content_hydrator(content, state.hasher, config.content_timeout_ms),
            # Again, and after it: of the page it may know better whose posts are carried.
            LabelsHydrator(state.labels, config.unsafe_labels, config.unsafe_for_strangers_labels),
            names_hydrator(content, config.content_timeout_ms),
            ProofActionsHydrator(index),
        ),
        late_filters=(
            ContentFilter(),
            CarriedFilter(
                OwnPostsFilter(),
                BlockedParentFilter(),
                MutedParentFilter(),
                SensitiveFilter(),
                UnsafeFilter(state.codes.labels.name),
            ),
            MutedKeywordFilter(),
            ClaimFilter(
                parts.claims,
                ttl_ms=config.claim_ttl_ms,
                max_claims=config.max_claims,
                timeout_ms=config.claim_timeout_ms,
            ),
        ),
        side_effects=(
            LogServed(parts.served_logger, NAME),
            LogFeatures(
                parts.features_logger,
                NAME,
                parts.actions,
                max_bytes=config.max_features_bytes,
                versions_of=versions_of,
            ),
            LogCandidates(
                parts.features_logger,
                NAME,
                parts.actions,
                max_bytes=config.max_features_bytes,
                versions_of=versions_of,
            ),
            RememberRanked(ranked_memory),
        ),
    )


def home_dims(actions: ActionSpace) -> dict[str, int]:
    """Return the sizes that the pipeline's columns are declared with."""
    n_actions = len(actions)
    return {N_ACTIONS_DIM: n_actions, N_COUNTERS_DIM: n_actions + 1, N_DENSE_DIM: len(dense_fields(actions))}


def home_pipeline(parts: HomeParts, config: HomeConfig, observer: PipelineObserver | None = None) -> Pipeline:
    """Return the home pipeline over the stores of this process."""
    stages = home_stages(parts, config)
    return Pipeline(
        NAME,
        stages if parts.revise is None else parts.revise(stages),
        key=POST_ID,
        dims=home_dims(parts.actions),
        clock=parts.clock,
        observer=observer,
        given=(VIEWER, CONTEXT, MODELS),
        max_refills=config.max_refills,
        is_strict=config.is_strict,
    )
