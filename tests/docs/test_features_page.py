"""The tables of docs/features.md are the declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.actions import ActionSpace
from millrace.features.store.feature import FeatureTable
from millrace.features.store.post_features import post_table
from millrace.features.store.user_features import user_table
from millrace.stores.engagement_config import EngagementConfig

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
TABLES = {
    "Post features": post_table(EngagementConfig(), ActionSpace()),
    "User features": user_table(EngagementConfig(), ActionSpace()),
}


def lines_of(table: FeatureTable) -> list[str]:
    return [f"| `{f.name}` | {f.dtype} | {f.width} | {f.source} | {f.freshness} | {f.doc} |" for f in table]


@pytest.mark.parametrize("title", TABLES)
def test_the_page_lists_every_feature_as_it_is_declared(title: str) -> None:
    section = PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == lines_of(TABLES[title])
