"""`millrace flywheel join --once` on a log of Redis Streams: the samples of the embedded log, which are the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.app import cli, wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import CONFIG_NAME, Settings
from millrace.base.clock import ManualClock
from millrace.flywheel.slate_join import HOUR_MS
from millrace.testing.builders import NOW_MS
from millrace.testing.join_house import JoinHouse, Truth, as_truth, differences, messages_of
from millrace.testing.join_traffic import Traffic, traffic

pytestmark = pytest.mark.service


def joined(settings: Settings) -> Truth:
    """Return the samples that the command makes of the same events on the home's log."""
    # Appended long after all events, so that each counts at its own time.
    log = wiring.build_log(settings, ManualClock(NOW_MS + 1_000 * HOUR_MS))
    log.append(messages_of(traffic(Traffic())))
    log.close()
    assert cli.run(["flywheel", "join", "--once", "--json", "--home", str(settings.home)]) == 0
    return as_truth(wiring.build_sample_store(settings).rows())


def test_the_joiner_makes_the_same_samples_of_a_log_on_redis(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (
        f'[log]\nbackend = "redis"\n[log.redis]\nurl = "{redis_url}"\nprefix = "{tmp_path.name} join"\n'
        "requires_fsync = false\n"
    )
    found: dict[str, Truth] = {}
    for name, text in {"sqlite": "", "redis": config}.items():
        home = tmp_path / name
        home.mkdir()
        (home / CONFIG_NAME).write_text(text)
        settings = make_home(home)[0]
        found[name] = joined(settings)
        assert settings.log_path.exists() == (name == "sqlite")
    house = JoinHouse(tmp_path)
    house.put(traffic(Traffic()))
    truth = house.truth()
    house.close()
    assert len(truth) > 300
    assert found["redis"] == found["sqlite"]
    assert differences(found["redis"], truth) == (0, 0, 0)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[0]["n_samples"] == told[1]["n_samples"] >= len(truth)


def test_a_second_join_goes_on_where_the_first_ended(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CONFIG_NAME).write_text(
        f'[log]\nbackend = "redis"\n[log.redis]\nurl = "{redis_url}"\nprefix = "{tmp_path.name}"\n'
        "requires_fsync = false\n"
    )
    settings = make_home(tmp_path)[0]
    once = joined(settings)
    n_heard = json.loads(capsys.readouterr().out.splitlines()[-1])["n_records"]
    twice = joined(settings)  # the log drops what it holds already
    assert once == twice
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["n_records"] >= n_heard
