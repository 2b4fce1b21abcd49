from __future__ import annotations

import pytest

from millrace.events.envelope import AnyEvent
from millrace.events.feature_events import CandidatesLogged, FeaturesLogged, InputsLogged
from millrace.events.feed_events import Impression
from millrace.events.packed import unpack_arrays
from millrace.events.subjects import SubjectRule, user_fields
from millrace.testing.builders import (
    a_block,
    a_clock_tick,
    a_features_logged,
    a_follow,
    a_label_changed,
    a_mute,
    a_post_created,
    a_post_deleted,
    a_post_edited,
    a_profile_updated,
    a_search,
    a_served,
    a_user_erased,
    an_editorial_pick,
    an_engagement,
    an_impression,
)


@pytest.mark.parametrize(
    "event",
    [
        a_post_created(1, "erin"),
        an_engagement("erin", 5),
        an_impression("erin", 5),
        a_follow("erin", "bob"),
        a_follow("bob", "erin"),
        a_block("bob", "erin"),
        a_mute("bob", "erin"),
        a_profile_updated("erin"),
        a_search("erin"),
        a_label_changed(user_id="erin"),
        a_served("erin"),
        a_features_logged("erin"),
        a_features_logged("erin", kind=CandidatesLogged),
        a_user_erased("erin"),
    ],
)
def test_an_event_is_about_everybody_in_its_own_user_fields(event: AnyEvent) -> None:
    assert SubjectRule(["erin"]).is_about(event.payload)
    assert not SubjectRule(["somebody"]).is_about(event.payload)


def test_what_happens_to_a_post_is_about_its_author_once_the_post_is_known() -> None:
    rule = SubjectRule(["erin"])
    edit, deletion = a_post_edited("p1", text="new").payload, a_post_deleted("p1").payload
    assert not rule.is_about(edit)
    assert rule.is_about(a_post_created("p1", "erin").payload)
    assert rule.is_about(edit)
    assert rule.is_about(deletion)
    assert rule.is_about(an_editorial_pick("p1").payload)
    assert SubjectRule(["erin"], ["p1"]).is_about(edit)
    assert not rule.is_about(an_engagement("bob", "p1").payload)  # what others did is theirs


def test_mentions_are_taken_out_of_what_belongs_to_others() -> None:
    rule = SubjectRule(["erin"])
    answer = a_post_created(2, "bob", kind="reply", parent_id=1, parent_author_id="erin").payload
    page = a_served("bob", ("p1", "p2"), author_id="erin").payload
    for payload in (answer, page):
        assert not rule.is_about(payload)
        assert rule.mentions(payload)
        assert not rule.mentions(rule.without_mentions(payload))
    assert rule.without_mentions(answer).parent_id == "1"  # type: ignore[attr-defined]
    other = an_engagement("bob").payload
    assert rule.without_mentions(other) is other


@pytest.mark.parametrize("kind", [FeaturesLogged, CandidatesLogged])
def test_what_models_saw_of_others_names_authors_by_inside_ids(kind: type[InputsLogged]) -> None:
    rule = SubjectRule(["erin"], ["p9"])
    on_page = a_features_logged("bob", ("p1", "p2"), author_id="erin", kind=kind).payload
    in_history = a_features_logged("bob", ("p1",), author_id="ada", history={"p3": "ada", "p4": "erin"}).payload
    by_post = a_features_logged("bob", ("p8", "p9"), author_id="ada").payload
    for payload, n_rows, n_tokens in ((on_page, 0, 0), (in_history, 1, 1), (by_post, 1, 0)):
        assert not rule.is_about(payload)
        assert rule.mentions(payload)
        assert rule.shows_posts(payload)
        left = rule.without_mentions(payload)
        assert not rule.mentions(left)
        arrays = unpack_arrays(left.arrays)  # type: ignore[attr-defined]
        assert (len(arrays["posts"]), len(arrays["h_posts"]), len(arrays["v_newest_ms"])) == (n_rows, n_tokens, 1)
    other = a_features_logged("bob", ("p1",), author_id="ada", history={"p3": "ada"}).payload
    assert not rule.mentions(other)
    assert rule.without_mentions(other) is other
    damaged = FeaturesLogged(request_id="r", viewer_id="bob", pipeline="home", schema="x", arrays=b"nothing")
    assert rule.mentions(damaged)
    assert rule.without_mentions(damaged).arrays == b""  # type: ignore[attr-defined]


def test_user_fields_are_found_by_what_they_are_declared_as() -> None:
    assert user_fields(Impression) == ("viewer_id",)
    assert user_fields(type(a_clock_tick().payload)) == ()
