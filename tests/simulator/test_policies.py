from __future__ import annotations

from pathlib import Path

import pytest

from millrace.base.errors import ConfigError
from millrace.simulator.policies import FEEDS, Harm, Policy, parse_policy


@pytest.mark.parametrize("feed", FEEDS)
def test_a_feeds_name_alone_is_a_policy(feed: str) -> None:
    assert parse_policy(feed) == Policy(name=feed, feed=feed)  # type: ignore[arg-type]


def test_a_policy_may_have_another_name_settings_and_a_planted_effect() -> None:
    policy = parse_policy("more-likes=home,params.value.weight_like=2,home.page_size=20,readiness=1.01")
    assert policy.name == "more-likes"
    assert policy.feed == "home"
    assert policy.settings == {"params.value.weight_like": "2", "home.page_size": "20"}
    assert policy.readiness == 1.01
    assert policy.harm is None


def test_a_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "harm.toml"
    path.write_text(
        'feed = "popular"\nreadiness = 0.99\n[settings]\n"params.value.weight_like" = 2.0\n'
        '[harm]\nlanguage = "ja"\nreadiness = 0.9\n'
    )
    assert parse_policy(f"planted={path}") == Policy(
        name="planted",
        feed="popular",
        settings={"params.value.weight_like": 2.0},
        readiness=0.99,
        harm=Harm(language="ja", readiness=0.9),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("best", "no feed is called 'best'"),
        ("a=best,readiness=1", "use one of home, random"),
        ("", "no feed is called ''"),
        ("a=home,readiness", "'readiness' has no value"),
        ("a=home,readiness=much", "readiness is no number"),
        ("a=home,readiness=0", "readiness"),
        ("a=home,readiness=3", "readiness"),
        ("a=home,readiness=nan", "readiness"),
        ("=home", "name"),
        (f"{'n' * 65}=home", "name"),
        ("a=/no/such/file.toml", "no such file"),
    ],
)
def test_what_is_no_policy_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        parse_policy(text)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("feed = ", "not TOML"),
        ("\xff", "not TOML"),
        ('feed = "best"', "feed"),
        ("colour = 1", "colour"),
        ("[harm]\nlanguage = 'en'\nreadiness = 5", "readiness"),
    ],
)
def test_a_bad_file_is_refused_with_the_reason(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=problem):
        parse_policy(f"a={path}")
