"""Settings: where the home is, and which value wins."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from millrace.app.config_template import config_template
from millrace.app.settings import CONFIG_NAME, MillraceConfig, find_home, load_settings, reload_settings, with_port
from millrace.base.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / CONFIG_NAME).write_text("[server]\nport = 9001\nn_workers = 3\n")
    return tmp_path


def test_the_given_home_wins_over_environment_and_current_folder(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / CONFIG_NAME).write_text("")
    assert find_home(other, {"MILLRACE_HOME": str(home)}, home) == other
    assert find_home(None, {"MILLRACE_HOME": str(other)}, home) == other
    assert find_home(None, {}, home) == home


def test_without_a_home_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `millrace init`"):
        find_home(None, {}, tmp_path)
    with pytest.raises(ConfigError, match=f"holds no {CONFIG_NAME}"):
        find_home(tmp_path / "nowhere", {}, tmp_path)


def test_command_line_wins_over_environment_over_file_over_default(home: Path) -> None:
    env = {"MILLRACE__SERVER__PORT": "9002", "MILLRACE__SERVER__N_WORKERS": "4", "OTHER": "x"}
    settings = load_settings(home, env, [("server.port", "9003")])
    server = settings.config.server
    assert (server.port, server.n_workers, server.host) == (9003, 4, "127.0.0.1")
    assert settings.origin_by_key["server.port"] == "command line"
    assert settings.origin_by_key["server.n_workers"] == "environment"
    assert "server.host" not in settings.origin_by_key
    assert load_settings(home).config.server.n_workers == 3


def test_all_problems_are_reported_at_once(home: Path) -> None:
    (home / CONFIG_NAME).write_text('[server]\nport = 70000\nhots = "x"\n[nonsense]\n')
    with pytest.raises(ConfigError) as caught:
        load_settings(home)
    problems = caught.value.problems
    assert len(problems) == 3
    assert problems[0] == "config key server.port 70000 (millrace.toml): expected int <= 65535"
    assert "did you mean server.host?" in problems[1]
    assert "config key nonsense" in problems[2]


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("flywheel.join.late_ms", "60000", "[flywheel.join] late_ms 60000: shorter than the longest window (1200000)"),
        ("flywheel.join.action_windows_ms", "{foo = 60000}", "[flywheel.join] action_windows_ms ['foo']: no such"),
        ("guards.heads", '["like", "foo"]', "[guards] heads ['foo']: no such actions"),
        ("near_line.n_slots", "1000", "[near_line] n_slots 1000: is no power of two; give 512 or 1024"),
        ("warehouse.user_post_day_days", "5", "config key warehouse.user_post_day_days 5: fewer than the 28 days"),
        ("warehouse.tiers.followers", "[5, 3, 9]", "config key warehouse.tiers.followers (5, 3, 9): does not rise"),
        ("events.business_actions", '["like"]', "business action 'like': not a new lower-case name"),
    ],
)
def test_settings_that_cannot_work_together_are_refused_at_load(home: Path, key: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(home, None, [(key, value)])
    (found,) = caught.value.problems
    assert found.startswith(problem)


def test_a_business_action_of_ones_own_may_be_guarded_and_have_a_window(home: Path) -> None:
    pairs = [
        ("events.business_actions", '["purchase"]'),
        ("guards.heads", '["purchase"]'),
        ("flywheel.join.action_windows_ms", "{purchase = 60000}"),
    ]
    assert load_settings(home, None, pairs).config.guards.heads == ("purchase",)


def test_the_template_is_complete_and_gives_the_defaults(tmp_path: Path) -> None:
    text = config_template()
    (tmp_path / CONFIG_NAME).write_text(text)
    settings = load_settings(tmp_path)
    assert settings.config == MillraceConfig()
    assert settings.origin_by_key == {}


def test_the_template_with_every_line_uncommented_still_gives_the_defaults(tmp_path: Path) -> None:
    lines = config_template().splitlines()
    settings_lines = [line.removeprefix("# ") if " = " in line else line for line in lines if "MILLRACE__" not in line]
    (tmp_path / CONFIG_NAME).write_text("\n".join(settings_lines))
    assert load_settings(tmp_path).config == MillraceConfig()


def test_settings_can_be_sent_to_a_worker_process(home: Path) -> None:
    settings = load_settings(home)
    copy = pickle.loads(pickle.dumps(settings))
    assert copy == settings


def test_the_file_can_be_read_again_under_the_same_environment_and_command_line(home: Path) -> None:
    env = {"MILLRACE__SERVER__N_WORKERS": "4", "SECRET": "x"}
    settings = pickle.loads(pickle.dumps(load_settings(home, env)))
    (home / CONFIG_NAME).write_text("[server]\nport = 9005\nn_workers = 7\n")
    again = reload_settings(settings)
    assert (again.config.server.port, again.config.server.n_workers) == (9005, 4)
    assert again.layers_above == settings.layers_above
    assert "SECRET" not in repr(settings.layers_above)
    assert reload_settings(with_port(settings, 0)).config.server.port == 0
    (home / CONFIG_NAME).write_text("[server]\nport = 'x'\n")
    with pytest.raises(ConfigError, match="expected int"):
        reload_settings(settings)


def test_files_have_their_places(home: Path) -> None:
    settings = load_settings(home)
    places = (settings.log_path, settings.content_path, settings.claims_path, settings.checkpoints_dir)
    assert [path.relative_to(home).as_posix() for path in places] == [
        "data/log.db",
        "data/content.db",
        "data/claims.db",
        "data/checkpoints",
    ]
