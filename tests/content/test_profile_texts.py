"""What users say of themselves: the last word counts, and an erased user has said nothing."""

import numpy as np

from millrace.base.ids import IdHasher, IdKind
from millrace.content.ngrams import token_rows
from millrace.content.profile_texts import ProfileTexts
from millrace.events.envelope import Event, Payload
from millrace.events.user_events import ProfileUpdated, UserErased
from millrace.stores.fold import EventBatch


def a_batch(*payloads: Payload) -> EventBatch:
    events = [Event(event_id=str(i), event_time_ms=i, source="test", payload=p) for i, p in enumerate(payloads)]
    none = np.zeros(len(events), dtype=np.int64)
    return EventBatch(events, none, none)


def tokens_of(texts: ProfileTexts, user: str) -> list[int]:
    return texts.tokens(np.array([IdHasher().one(IdKind.USER, user)]))[0].tolist()


def test_the_last_biography_counts_and_silence_changes_nothing() -> None:
    texts = ProfileTexts(IdHasher())
    texts.apply(
        a_batch(
            ProfileUpdated(user_id="1", bio="cats"),
            ProfileUpdated(user_id="1", bio="dogs", interests=("tea",)),
            ProfileUpdated(user_id="1", languages=("en",)),
        )
    )
    assert tokens_of(texts, "1") == token_rows(["dogs tea"])[0].tolist()
    assert not any(tokens_of(texts, "2"))


def test_an_erased_user_has_said_nothing_and_others_are_untouched() -> None:
    texts = ProfileTexts(IdHasher())
    texts.apply(a_batch(ProfileUpdated(user_id="1", bio="cats"), ProfileUpdated(user_id="2", bio="dogs")))
    texts.apply(a_batch(UserErased(user_id="1"), ProfileUpdated(user_id="3", bio="tea")))
    assert not any(tokens_of(texts, "1"))
    assert tokens_of(texts, "2") == token_rows(["dogs"])[0].tolist()
    assert tokens_of(texts, "3") == token_rows(["tea"])[0].tolist()


def test_it_grows_and_a_copy_of_its_arrays_is_the_same_store() -> None:
    texts = ProfileTexts(IdHasher())
    texts.apply(a_batch(*(ProfileUpdated(user_id=str(i), bio=f"bio {i}") for i in range(200))))
    other = ProfileTexts(IdHasher())
    other.load({name: array.copy() for name, array in texts.arrays().items()})
    assert all(tokens_of(other, str(i)) == token_rows([f"bio {i}"])[0].tolist() for i in range(200))
    assert other.n_users == 200
