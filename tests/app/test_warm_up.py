"""Warming up leaves no kernel to compile for a request, nor for the first models that are promoted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from millrace.app.settings import Settings
    from millrace.registry.manifest import Kind


def kernels() -> set[str]:
    """Return which kernels of ours are compiled or loaded, and for which types."""
    return {f"{name}{signature}" for name, kernel in _dispatchers() for signature in kernel.signatures}


def _dispatchers() -> Iterator[tuple[str, Any]]:
    from numba.core.dispatcher import Dispatcher

    for module_name, module in list(sys.modules.items()):
        # The simulator makes the world that is served here; no server runs its kernels.
        if module_name.startswith("millrace") and not module_name.startswith("millrace.simulator"):
            for name, value in list(vars(module).items()):
                if isinstance(value, Dispatcher) and value.__module__ == module_name:
                    yield f"{module_name}.{name}", value


def main(folder: Path) -> None:
    """Warm up as the supervisor does, serve a small world, and print which kernels that compiled.

    In a process of its own: other tests have compiled the kernels of this one.
    """
    from millrace.app import wiring
    from millrace.app.checkpoints import write_now
    from millrace.app.commands.init import make_home
    from millrace.app.demo_world import make_world
    from millrace.app.local_feed import explain_post, folded_replica, serve_page
    from millrace.app.settings import load_settings
    from millrace.app.viewers import active_viewers
    from millrace.app.warm_up import warm_up

    make_home(folder)
    settings = load_settings(
        folder, None, [("world.size", "tiny"), ("home.deadline_ms", "0.001"), ("params.pre_rank.max_candidates", "20")]
    )
    warm_up(settings)  # its own pages must not mind the deadline: where kernels are to be compiled, it passes
    before = kernels()
    make_world(settings, wiring.build_clock(), lambda _n: None)
    write_now(settings)
    with folded_replica(settings) as replica:
        viewers = [viewer.user_id for viewer in active_viewers(replica, 3)]
    posts = [post.post_id for viewer in viewers for post in serve_page(settings, viewer, None).page.posts[:2]]
    for viewer in (viewers[0], "nobody"):
        serve_page(settings, viewer, 5)
        serve_page(settings, viewer, None, timeline="following")
    for post in posts:
        explain_post(settings, "nobody", post)
        explain_post(settings, viewers[0], post)
    read_feature_sheets(settings, posts[0], viewers[0])
    promote_small_models(settings, folder / "small")
    for viewer in (viewers[1], "nobody"):
        debug_info = serve_page(settings, viewer, None).page.debug_info
        assert debug_info is not None
        assert sorted(debug_info.models) == ["pre_ranker", "ranker", "retrieval"], debug_info
    print(*sorted(kernels() - before), sep="\n")


def read_feature_sheets(settings: Settings, post: str, user: str) -> None:
    """Ask for features as the two endpoints do, while events flow and long after."""
    from millrace.app.feature_sheets import FeatureSheets
    from millrace.app.local_feed import folded_replica

    with folded_replica(settings) as replica:
        for now_ms in (replica.clock.now_ms(), replica.clock.now_ms() + 86_400_000):
            sheets = FeatureSheets.of(settings, replica, now_ms)
            asyncio.run(sheets.post(post))
            asyncio.run(sheets.user(user))


def promote_small_models(settings: Settings, folder: Path) -> None:
    """Let models of all kinds serve; what is compiled for that counts."""
    import torch

    from millrace.app.model_publishing import promote, publish
    from millrace.base.actions import ActionSpace
    from millrace.features.encoding.candidates import dense_fields, schema_hash
    from millrace.flywheel.sample_set import SET_VERSION, SampleMeta
    from millrace.models.config import PreRankerConfig, TableConfig
    from millrace.models.pre_ranker import PreRanker
    from millrace.models.pre_ranker_export import export_pre_ranker
    from millrace.testing.small_rankers import export_small_ranker
    from millrace.testing.small_towers import export_small_towers

    actions = ActionSpace()
    schema, dense = schema_hash(actions), dense_fields(actions)
    export_small_ranker(folder / "ranker")
    (folder / "retrieval").mkdir()
    export_small_towers(folder / "retrieval")
    torch.manual_seed(1)
    tables = TableConfig(width=4, n_post_rows=64, n_author_rows=16)
    student = PreRankerConfig(d=8, tables=tables, actions=actions.names, n_dense=len(dense), schema=schema)
    export_pre_ranker(PreRanker(student).eval(), folder / "pre_ranker")
    meta = SampleMeta(version=SET_VERSION, schema=schema, actions=actions.names, dense=dense, from_ms=0, until_ms=1)
    kinds: tuple[Kind, ...] = ("ranker", "retrieval", "pre_ranker")
    versions = {kind: publish(settings, kind, folder / kind, meta, metrics={}, training={}).version for kind in kinds}
    promote(settings, versions, "small")


@pytest.mark.timeout(300)  # a process of its own imports torch and exports three models
def test_no_kernel_is_compiled_after_warming_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "home")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
