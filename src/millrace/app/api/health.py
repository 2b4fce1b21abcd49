"""``/healthz``, ``/readyz`` and ``/metrics``: what machines ask."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from millrace.app.access import Gate
from millrace.app.api.guard import METRICS, OPEN, security_of
from millrace.app.api.problems import problems
from millrace.app.metrics import CONTENT_TYPE, Metrics


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether this worker may serve, and how far its state is.

    Attributes
    ----------
    is_ready
        Whether the state had caught up with the log once since the start, and follows it.
    lag
        Records of the log not folded yet.
    state_offset
        The log position that all stores are at.
    now_ms
        Event time.
    is_time_virtual
        Whether `ClockTick` events move it, and nothing else.
    reason
        Why it may not serve; empty if it may.
    warnings
        What is wrong with the home and keeps nobody from serving: the join rate, where it is too low or has fallen.
    """

    is_ready: bool
    lag: int
    state_offset: tuple[int, ...]
    now_ms: int
    is_time_virtual: bool
    reason: str = ""
    warnings: tuple[str, ...] = ()


def health_routes(
    readiness: Callable[[], Readiness], metrics: Metrics, gate: Gate, server_id: str = ""
) -> list[HTTPRouteHandler]:
    """Return the handlers.

    Parameters
    ----------
    readiness
        Asked at every request.
    metrics
        Rendered for all processes of the home.
    gate
        Tells whether credentials are asked for.
    server_id
        The server's name, by which others know whose it is (`millrace.app.server_note`); empty: it has none.
    """
    health = {"status": "ok", **({"server": server_id} if server_id else {})}

    @get("/healthz", summary="Is the process alive?", tags=["operations"], opt=OPEN, sync_to_thread=False)
    def healthz() -> dict[str, str]:
        """Answer as long as the process can answer at all; `server` is a name drawn when the server started."""
        return health

    @get(
        "/readyz",
        summary="May it serve?",
        tags=["operations"],
        opt=OPEN,
        sync_to_thread=False,
        responses={503: ResponseSpec(Readiness, description="Not yet, or not now", generate_examples=False)},
    )
    def readyz() -> Response[Readiness]:
        """Answer 200 once the state has caught up with the log, 503 before; what `warnings` name changes neither."""
        found = readiness()
        return Response(found, status_code=200 if found.is_ready else 503)

    @get(
        "/metrics",
        summary="Prometheus metrics",
        tags=["operations"],
        opt=METRICS,
        security=security_of(gate, METRICS),
        sync_to_thread=True,
        media_type=CONTENT_TYPE,
        responses=problems(401, 403, 503),
    )
    def prometheus() -> Response[bytes]:
        """Answer the metrics of all processes together, in Prometheus' text form.

        For operators; without credentials, for programs on this machine.
        """
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return [healthz, readyz, prometheus]
