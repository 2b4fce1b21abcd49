from __future__ import annotations

from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.events.importers.ordering import TimeSurvey, in_time_order


def surveyed(times: list[int]) -> TimeSurvey:
    survey = TimeSurvey()
    for time_ms in times:
        survey.add(time_ms)
    return survey


def test_a_survey_knows_number_span_and_order() -> None:
    survey = surveyed([5, 3, 9])
    assert (survey.n, survey.first_ms, survey.last_ms, survey.is_sorted) == (3, 3, 9, False)
    assert surveyed([3, 3, 9]).is_sorted
    assert surveyed([]).slice_ends() == []


@settings(max_examples=100, deadline=None)
@given(times=st.lists(st.integers(0, 50), max_size=60), max_held=st.integers(1, 20))
def test_rows_come_by_time_equal_times_in_their_order(times: list[int], max_held: int) -> None:
    def read() -> Iterator[tuple[int, int]]:
        return ((time_ms, number) for number, time_ms in enumerate(times))

    assert list(in_time_order(read, surveyed(times), max_held=max_held)) == sorted(read())


def test_many_rows_are_cut_into_slices_of_about_the_size_asked_for() -> None:
    # More than a survey samples, and in the worst order.
    times = list(range(300_000, 0, -1))
    n_readings = 0

    def read() -> Iterator[tuple[int, int]]:
        nonlocal n_readings
        n_readings += 1
        return ((time_ms, time_ms) for time_ms in times)

    survey = surveyed(times)
    ends = survey.slice_ends(50_000)
    sizes = [high - low for low, high in zip([0, *ends], ends, strict=False)]
    assert max(sizes) < 51_000
    assert [item for _, item in in_time_order(read, survey, max_held=50_000)] == sorted(times)
    assert n_readings == 6
