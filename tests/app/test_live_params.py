"""Edits of the home's file: what takes effect, what is rejected, what waits for a restart."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from millrace.app.live_params import LiveParams
from millrace.app.metrics import Metrics
from millrace.app.settings import CONFIG_NAME, Settings, load_settings
from millrace.base.params import Param, ParamSet
from millrace.mixer.value_model.profiles import params_in_effect

RATE = Param("a.rate", 0.5, 0.0, 1.0)
DECLARED = {RATE.name: RATE, "b.n": Param("b.n", 3, 0, 9)}


def params_of(settings: Settings) -> ParamSet:
    config = settings.config
    return params_in_effect(config.home.value_profile, config.profiles, config.params, DECLARED)


class Home:
    """A home folder, its file, and a process that lives from it."""

    def __init__(self, folder: Path, text: str = "", **more: object) -> None:
        self.path = folder / CONFIG_NAME
        self.write(text)
        self.settings = load_settings(folder, **more)  # type: ignore[arg-type]
        self.begin()

    def begin(self) -> None:
        self.metrics = Metrics()
        self.taken: list[ParamSet] = []
        self.live = LiveParams(self.settings, params_of, self.metrics)
        self.live.on_change(self.taken.append)

    def write(self, text: str) -> None:
        """Write a file that differs from the one before, as the file system sees it."""
        before = self.path.stat().st_mtime_ns if self.path.exists() else 0
        self.path.write_text(text)
        os.utime(self.path, ns=(before + 1_000_000, before + 1_000_000))

    def look(self, n: int = 2) -> float:
        """Look at the file; return the value in effect."""

        async def looks() -> None:
            for _ in range(n):
                await self.live.look()

        asyncio.run(looks())
        return self.live.params.get_float(RATE)

    def is_rejected(self) -> bool:
        return "millrace_params_rejected 1.0" in self.metrics.render().decode()


MakeHome = Callable[..., Home]


@pytest.fixture
def a_home(tmp_path: Path) -> MakeHome:
    def make(text: str = "", **more: object) -> Home:
        home = Home(tmp_path, text, **more)
        asyncio.run(home.live.start())
        return home

    return make


def test_an_edit_takes_effect_when_the_file_stands_still(a_home: MakeHome) -> None:
    home = a_home("[params]\na.rate = 0.25\n")
    assert home.look() == 0.25
    assert home.taken == []
    home.write("[params]\na.rate = 0.75\n")
    assert home.look(1) == 0.25  # perhaps it is still being written
    assert home.look(1) == 0.75
    assert [params.values for params in home.taken] == [{"a.rate": 0.75}]
    assert home.taken[0].level_by_name == {"a.rate": "config"}
    home.write("")
    assert home.look() == 0.5
    assert home.taken[-1].values == {}


def test_a_profile_and_its_choice_take_effect_too(a_home: MakeHome) -> None:
    home = a_home()
    home.write("[home]\nvalue_profile = 'calm'\n[profiles.calm]\na.rate = 0.0\n'b.n' = 4\n")
    assert home.look() == 0.0
    home.write("[home]\nvalue_profile = 'calm'\n[profiles.calm]\na.rate = 0.125\n[params]\n'b.n' = 5\n")
    assert home.look() == 0.125
    assert home.taken[-1].values == {"a.rate": 0.125, "b.n": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[params]\na.rate = 1.5\nb.m = 2\n", "param a.rate 1.5: out of bounds"),
        ("[params]\na.rate = 0.75\n[server]\nport = 'x'\n", "config key server.port 'x' (millrace.toml): expected int"),
        ("[home]\nvalue_profile = 'calm'\n", "no such profile; use one of classic, x"),
        ("[params\n", "not valid TOML"),
    ],
)
def test_an_edit_that_cannot_be_used_changes_nothing_and_says_so_once(
    a_home: MakeHome, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    home = a_home("[params]\na.rate = 0.25\n")
    home.write(text)
    assert home.look(4) == 0.25
    assert home.is_rejected()
    (record,) = caplog.records
    message = record.getMessage()
    assert said in message
    assert "\n" not in message
    home.write("[params]\na.rate = 0.75\n")
    assert home.look() == 0.75
    assert not home.is_rejected()
    assert len(home.taken) == 1
    (_, mended) = caplog.records
    assert mended.getMessage() == f"{home.path} can be used again; its params are in effect"
    home.write("[params]\na.rate = 0.5\n")
    assert home.look() == 0.5
    assert len(caplog.records) == 2


def test_all_problems_of_an_edit_are_in_its_line(a_home: MakeHome, caplog: pytest.LogCaptureFixture) -> None:
    home = a_home()
    home.write("[params]\na.rate = 1.5\nb.m = 2\n[server]\nprot = 1\n")
    home.look()
    (record,) = caplog.records
    for part in ("a.rate 1.5", "'b.m': not known", "did you mean server.port?"):
        assert part in record.getMessage()


def test_environment_and_command_line_keep_their_precedence(a_home: MakeHome) -> None:
    home = a_home(env={"MILLRACE__PARAMS__A__RATE": "0.125", "OTHER": "x"}, overrides=[("params.b.n", "7")])
    home.write("[params]\na.rate = 0.75\n'b.n' = 1\n")
    home.look()
    assert home.live.params.values == {"a.rate": 0.125, "b.n": 7}
    assert home.taken == []


def test_other_keys_wait_for_a_restart_and_are_named_once(a_home: MakeHome, caplog: pytest.LogCaptureFixture) -> None:
    home = a_home()
    with caplog.at_level(logging.INFO):
        home.write("[server]\nport = 9000\n[home]\npage_size = 20\n[params]\na.rate = 0.75\n")
        assert home.look() == 0.75
        home.write("[server]\nport = 9000\n[home]\npage_size = 20\n[params]\na.rate = 0.5\n")
        assert home.look() == 0.5
    assert [record.getMessage() for record in caplog.records] == [
        "params changed: a.rate = 0.75",
        "config keys changed, but take effect at the next start of the server: home.page_size, server.port",
        "params changed: a.rate = 0.5",
    ]


def test_a_process_that_starts_late_reads_the_file_as_it_is(a_home: MakeHome) -> None:
    home = a_home("[params]\na.rate = 0.25\n")
    home.write("[params]\na.rate = 0.75\n")
    home.begin()  # with the settings of before, as a worker that is started again
    asyncio.run(home.live.start())
    assert home.live.params.get_float(RATE) == 0.75


def test_a_file_that_is_gone_changes_nothing(a_home: MakeHome, caplog: pytest.LogCaptureFixture) -> None:
    home = a_home("[params]\na.rate = 0.25\n")
    home.path.unlink()
    assert home.look(4) == 0.25
    assert home.is_rejected()
    assert "cannot be read" in caplog.text
    home.write("[params]\na.rate = 0.75\n")
    assert home.look() == 0.75


def test_following_goes_on_whatever_happens(a_home: MakeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    home = a_home()
    monkeypatch.setattr("millrace.app.live_params.EVERY_S", 0.0)
    home.live._params_of = iter(()).__next__  # type: ignore[assignment]
    home.write("[params]\na.rate = 0.75\n")

    async def follow() -> None:
        following = asyncio.create_task(home.live.follow())
        while home.live.params.get_float(RATE) != 0.75:
            await asyncio.sleep(0)
            if home.live._read == home.live._looked_at and home.live._params_of is not params_of:
                home.live._params_of = params_of
                home.write("[params]\n'a.rate' = 0.75\n")
        following.cancel()

    asyncio.run(asyncio.wait_for(follow(), 10))
