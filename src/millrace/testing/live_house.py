"""`LiveHouse`: a registry in a folder, and live models that follow it and tell a test what became of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from millrace.inference.live_models import Artefacts, LiveModels
from millrace.inference.model_events import ModelEvent
from millrace.registry.manifest import Description, Kind
from millrace.registry.registry import Registry
from millrace.testing.told_clock import ToldClock


class Bundle:
    """Stands for loaded models: knows its texts, how often it was warmed, and how often closed."""

    def __init__(self, artefacts: Artefacts) -> None:
        self.texts = {kind: (artefact.path / "net").read_text() for kind, artefact in artefacts.items()}
        self.n_warmed = self.n_closed = 0

    @property
    def text(self) -> str:
        """Return the text of the ranker."""
        return self.texts["ranker"]


class LiveHouse:
    """A registry, and the live models that follow it.

    Parameters
    ----------
    folder
        Where the registry is made.
    gives_way
        As of `LiveModels`.

    Attributes
    ----------
    clock
        Real time as the test tells it.
    loaded, events
        Every bundle that was opened, and everything that was observed.
    on_event, on_warm
        Called with each event, and with each bundle before it is warm.
    """

    def __init__(self, folder: Path, *, gives_way: bool = False) -> None:
        self.folder = folder
        self.clock = ToldClock(now_ms=77)
        self.registry = Registry(folder / "models")
        self.loaded: list[Bundle] = []
        self.events: list[ModelEvent] = []
        self.on_event: Callable[[ModelEvent], None] = lambda _event: None
        self.on_warm: Callable[[Bundle], None] = lambda _bundle: None
        self.live = LiveModels(
            self.registry,
            self.load,
            check=self.check,
            warm=self.warm,
            close=self.close,
            observe=self.observe,
            clock=self.clock,
            gives_way=gives_way,
        )

    def load(self, artefacts: Artefacts) -> Bundle:
        """Open artefacts; a ranker of the text "no memory" finds none."""
        bundle = Bundle(artefacts)
        if bundle.text == "no memory":
            raise MemoryError("no room")
        self.loaded.append(bundle)
        return bundle

    def check(self, artefacts: Artefacts) -> str | None:
        """Say that artefacts of another schema than "ours" do not fit."""
        foreign = [kind for kind, artefact in artefacts.items() if artefact.manifest.feature_schema_hash != "ours"]
        return f"{foreign[0]} reads other features" if foreign else None

    def warm(self, bundle: Bundle) -> None:
        """Run a bundle; a ranker of the text "bad" fails."""
        bundle.n_warmed += 1
        self.on_warm(bundle)
        if bundle.text == "bad":
            raise ValueError("scores are not finite")

    def close(self, bundle: Bundle) -> None:
        """Count how often a bundle was closed."""
        bundle.n_closed += 1

    def observe(self, event: ModelEvent) -> None:
        """Keep an event, and tell the test."""
        self.events.append(event)
        self.on_event(event)

    def publish(self, text: str, *, kind: Kind = "ranker", schema: str = "ours") -> str:
        """Publish a model of a text; return its version."""
        trained = self.folder / "trained"
        trained.mkdir(exist_ok=True)
        (trained / "net").write_text(text)
        said = Description(kind=kind, feature_schema_hash=schema, from_ms=0, until_ms=1)
        return self.registry.publish(trained, said, now_ms=0).version

    def promote(self, text: str, lane: str = "default", **more: Any) -> str:
        """Publish a model of a text and let it serve a lane; return its version."""
        version = self.publish(text, **more)
        self.registry.promote({more.get("kind", "ranker"): version}, lane, now_ms=0)
        return version

    def serves(self, lane: str = "default") -> str:
        """Return the text of the ranker that a request of a lane gets: warmed once, and open."""
        with self.live.lease(lane) as bundle:
            assert bundle.n_warmed == 1
            assert bundle.n_closed == 0
            return bundle.text

    def told(self) -> list[tuple[str, str]]:
        """Return what happened in which lane, in order."""
        return [(event.what, event.lane) for event in self.events]
