"""A simulated run over HTTP: the same people, before a server of ``millrace serve --virtual-time``.

The server must have the world's history and nothing else of that world: `server_home` makes such a home. Its config is
the policy; what happens inside a page is not known here, so regret is not split.
"""

from __future__ import annotations

from pathlib import Path

from millrace.app import wiring
from millrace.app.feed_client import HttpFeedClient
from millrace.app.settings import Settings, load_settings
from millrace.app.simulation.homes import base_home, copy_home
from millrace.app.simulation.run import Hooks, RunSpec, prepare, restored, run_home, slices
from millrace.app.virtual_time import enter_virtual_time
from millrace.base.errors import ConfigError


def run_over_http(spec: RunSpec, url: str, hooks: Hooks | None = None, *, n_connections: int = 4) -> int:
    """Make a run, or go on with one that was interrupted; return how many pages it has made in all.

    Raises
    ------
    ConfigError
        If several policies are named: a server has one.
    FeedClientError
        If the server does not answer, or is not in virtual time.
    """
    if len(spec.policies) > 1 or spec.policies[0].feed != "home" or spec.policies[0].settings:
        raise ConfigError(
            "policy",
            value=", ".join(policy.name for policy in spec.policies),
            problem="a server has the policy that it was started with",
            remedy="name one policy with --policy NAME=home, and give the settings to `millrace serve --set`",
        )
    prepare(spec)
    settings = load_settings(run_home(Path(spec.folder)))
    world, atlas, snapshot = restored(spec)
    client = HttpFeedClient(url, wiring.build_codec(settings), n_connections=n_connections)
    try:
        client.advance(snapshot.start_ms)
        names = tuple(source.name for source in wiring.build_idle_pipelines(settings)[0].stages.sources)
        return slices(spec, hooks or Hooks(), world, atlas, client, snapshot, names)
    finally:
        client.close()


def server_home(spec: RunSpec, home: Path) -> Settings:
    """Make a home with a world's history in virtual time, for `millrace serve`; return its settings."""
    settings = copy_home(base_home(spec.world, Path(spec.worlds)), home)
    enter_virtual_time(settings)
    return settings
