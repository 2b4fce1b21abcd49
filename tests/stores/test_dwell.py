from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.base.actions import Action
from millrace.stores.dwell import (
    dwell_flags,
    dwell_flags_kernel,
    strongest_action,
    strongest_action_kernel,
)
from millrace.stores.engagement_config import DwellThresholds

THRESHOLDS = DwellThresholds().as_array()
around = st.sampled_from((0, 1, 2_999, 3_000, 3_001, 5_999, 6_000, 6_001, 600_000)) | st.integers(0, 1 << 40)


@settings(max_examples=100, deadline=None)
@given(longest_ms=around, dwell_ms=around, duration_ms=around)
def test_the_compiled_rules_are_the_written_ones(longest_ms: int, dwell_ms: int, duration_ms: int) -> None:
    flags = dwell_flags(longest_ms, dwell_ms, duration_ms, THRESHOLDS)
    assert dwell_flags_kernel(longest_ms, dwell_ms, duration_ms, THRESHOLDS) == flags
    assert strongest_action_kernel(flags) == strongest_action(flags)


def test_between_short_and_valid_only_the_seconds_count() -> None:
    assert strongest_action(dwell_flags(4_000, 4_000, 0, THRESHOLDS)) == Action.DWELL_TIME
