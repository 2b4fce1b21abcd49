"""The choice of runner and precision: what goes together, what is opened, and what is missing on this machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from millrace.base.errors import ConfigError
from millrace.inference.runner_choice import PRECISIONS, Precision, RunnerName, check_precision, open_runner
from millrace.mixer.config import HomeConfig


@pytest.mark.parametrize("runner", PRECISIONS)
def test_each_runner_opens_by_its_name(ranker_folder: Path, runner: RunnerName) -> None:
    opened = open_runner(ranker_folder, runner)
    assert type(opened).__name__.lower() == f"{runner}runner"
    assert type(opened).__module__ == f"millrace.inference.{runner}_runner"


@pytest.mark.parametrize(
    ("runner", "precision", "remedy"),
    [
        ("onnx", "bf16", "choose the runner torch"),
        ("torch", "int8", "choose the runner onnx"),
        ("numpy", "int8", "choose the runner onnx"),
        ("numpy", "bf16", "choose the runner torch"),
    ],
)
def test_a_precision_that_a_runner_does_not_have_is_refused_with_the_one_that_does(
    runner: RunnerName, precision: Precision, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=remedy):
        check_precision(runner, precision)
    with pytest.raises(ConfigError, match=remedy):
        HomeConfig(runner=runner, precision=precision)


def test_what_was_never_judged_is_run_in_float32(ranker_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = open_runner(ranker_folder, "torch", "bf16")
    assert {str(weight.dtype) for weight in opened._ranker.parameters()} == {"torch.float32"}  # type: ignore[attr-defined]
    assert "never judged in bf16" in caplog.text


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from pathlib import Path
from millrace.app import cli, wiring
from millrace.app.commands.init import make_home
from millrace.app.settings import load_settings
from millrace.base.errors import ConfigError
from millrace.inference.runner_choice import open_runner

folder, home = map(Path, sys.argv[1:])
for runner in ("onnx", "numpy"):
    assert open_runner(folder, runner).config.trunk.d == 32
make_home(home)
settings = load_settings(home, None, [("home.runner", "torch"), ("home.precision", "bf16")])
for attempt in (lambda: open_runner(folder, "torch"), lambda: wiring.build_live_models(settings)):
    try:
        attempt()
    except ConfigError as error:
        print(error)
elsewhere = load_settings(home, None, [("home.runner", "torch"), ("home.rank_servers", '["127.0.0.1:1"]')])
wiring.build_live_models(elsewhere)  # the rank server needs torch, this process does not
assert cli.run(["serve", "--home", str(home), "--set", "home.runner=torch"]) == cli.USAGE_ERROR
"""


def test_where_torch_is_not_installed_the_others_serve_and_torch_is_asked_for_by_name(
    ranker_folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(ranker_folder), str(tmp_path / "home")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip().splitlines()
    assert len(said) == 2
    for line in (*said, " ".join(done.stderr.split())):
        assert "torch is not installed" in line
        assert "pip install -e '.[train]' from the checkout" in line
