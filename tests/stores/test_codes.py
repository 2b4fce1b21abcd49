"""`CodeTables`: names to codes that never change."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.errors import StoreError
from millrace.events.envelope import AnyEvent
from millrace.stores.codes import CodeTables, fold_language
from millrace.stores.config import StoresConfig
from millrace.testing.builders import a_batch_of, a_label_changed, a_post_annotated, a_profile_updated


def tables(*events: AnyEvent, max_codes: int = 100) -> CodeTables:
    codes = CodeTables(StoresConfig(max_codes=max_codes))
    codes.apply(a_batch_of(events))
    return codes


def test_codes_count_from_one_in_order_of_appearance() -> None:
    codes = tables(
        a_post_annotated(1, language="en", topics=("music", "sport")),
        a_profile_updated(2, languages=("ja", "en"), interests=("news", "music")),
        a_label_changed("spam", post_id=1),
    )
    assert codes.languages.names() == ("en", "ja")
    assert codes.topics.names() == ("music", "sport", "news")
    assert codes.labels.names() == ("spam",)
    assert (codes.topics.code("sport"), codes.topics.name(2)) == (2, "sport")
    assert (codes.topics.code("unheard of"), codes.topics.name(0)) == (0, "")


def test_spellings_of_one_name_share_a_code() -> None:
    codes = tables(a_post_annotated(1, language="pt-BR", topics=("Music",)))
    assert codes.languages.names() == ("pt",)
    assert codes.languages.code("PT_pt") == codes.languages.code("pt") == 1
    assert codes.topics.code(" ＭＵＳＩＣ ") == 1


@pytest.mark.parametrize(
    ("tag", "subtag"),
    [("EN", "en"), ("zh-Hans-CN", "zh"), ("x", ""), ("", ""), ("e1", ""), ("日本", ""), ("yue", "yue")],
)
def test_a_language_is_its_lower_case_primary_subtag(tag: str, subtag: str) -> None:
    assert fold_language(tag) == subtag


def test_an_unknown_name_is_found_once_it_is_known() -> None:
    codes = tables()
    assert codes.topics.code("music") == 0
    codes.apply(a_batch_of([a_post_annotated(1, topics=("music",))]))
    assert codes.topics.code("music") == 1


def test_a_full_table_takes_no_further_names() -> None:
    codes = tables(a_post_annotated(1, topics=("a", "b", "c", "a")), max_codes=2)
    assert codes.topics.names() == ("a", "b")
    assert codes.topics.code("c") == 0


def test_a_code_of_nobody_is_refused() -> None:
    with pytest.raises(StoreError, match="code 7: names nothing"):
        tables().topics.name(7)


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
histories = st.lists(
    st.one_of(
        st.builds(a_post_annotated, language=st.none() | names, topics=st.lists(names, max_size=3).map(tuple)),
        st.builds(a_profile_updated, languages=st.lists(names, max_size=2).map(tuple)),
        st.builds(a_label_changed, names, post_id=st.just(1)),
    ),
    max_size=20,
)


@settings(max_examples=50, deadline=None)
@given(histories, st.integers(0, 20))
def test_cuts_and_restarts_leave_no_trace_in_the_arrays(history: list[AnyEvent], cut: int) -> None:
    whole = tables(*history, max_codes=5)
    saved = tables(*history[:cut], max_codes=5).arrays()
    parts = CodeTables(StoresConfig(max_codes=5))
    parts.load(saved)
    parts.apply(a_batch_of(history[cut:]))
    one, two = whole.arrays(), parts.arrays()
    assert all((one[name].tobytes(), one[name].dtype) == (two[name].tobytes(), two[name].dtype) for name in one)
    assert whole.topics.names() == parts.topics.names()
    assert [whole.topics.code(name) for name in whole.topics.names()] == list(range(1, len(whole.topics) + 1))
