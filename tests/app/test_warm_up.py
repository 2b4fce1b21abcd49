"""Warming up leaves no kernel to compile for a request: the first page after a fresh install is a whole one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


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
    settings = load_settings(folder, None, [("world.size", "tiny"), ("home.deadline_ms", "0.001")])
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
    print(*sorted(kernels() - before), sep="\n")


def test_no_kernel_is_compiled_after_warming_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "home")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
