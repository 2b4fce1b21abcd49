"""The durable join: whatever kills it, every sample is in the files and on the topic once, as the batch join has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.testing.join_house import JoinHouse, differences
from millrace.testing.join_traffic import Traffic, traffic


@pytest.fixture
def house(tmp_path: Path) -> JoinHouse:
    return JoinHouse(tmp_path)


def test_files_and_topic_hold_what_the_batch_join_says(house: JoinHouse) -> None:
    house.put(traffic(Traffic()))
    house.join_all()
    truth = house.truth()
    assert len(truth) > 300
    assert differences(house.in_files(), truth) == (0, 0, 0)
    on_topic, n_repeated = house.on_topic()
    assert differences(on_topic, truth) == (0, 0, 0)
    assert n_repeated == 0
