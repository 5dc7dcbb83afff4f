"""Follows the desired state of one model: poll, load beside, warm, swap one reference.

Requests take `Follower.current` once and use nothing else, so the version, variant and revision
of an answer always belong together. Whatever fails while following leaves the old reference in
place and is told in the replica's heartbeat.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.errors import NotReady
from redpencil.reader import open_reader
from redpencil.store import Store
from redpencil.store.failures import FAILURES, DatabaseFailed, first_line
from redpencil.traffic import Assignment, assign
from redpencil.trial import served_precision
from redpencil.types import ServingState
from serving.reader import Reader

log = logging.getLogger(__name__)

BEAT_S = 2.0
RETRY_S = 10.0
EXTRA_VERSIONS = 2


@dataclass(frozen=True)
class Serving:
    """One moment of what is served: the state, and a warm reader for each version that it names."""

    state: ServingState
    readers: Mapping[str, Reader] = field(default_factory=dict)

    def assign(self, key: str) -> tuple[Reader, Assignment]:
        """Who answers this key; NotReady before the first champion."""
        assignment = assign(key, self.state)
        return self.readers[assignment.version], assignment


class Loader:
    """Turns a version's name into a warm reader, by way of the database and the blobs."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        model: str,
        cache: Path,
        device: str,
        vlm: str = "",
        cores: int = 0,
    ) -> None:
        self._store, self._blobs, self._model = store, blobs, model
        self._cache, self._device, self._vlm, self._cores = cache, device, vlm, cores

    def load(self, version: str) -> Reader:
        """Raises NotFound where the version is not registered, Damaged where its bundle is not whole."""
        known = self._store.versions.get(self._model, version)
        folder = bundle.fetch(known.bundle, self._blobs, self._cache)
        allowed = None if self._device == "cuda" else served_precision(self._store, self._model, version)
        reader = open_reader(folder, allowed, self._device, self._vlm, self._cores)
        reader.warm()
        log.info("loaded %s version %s (%s, %s)", self._model, version, reader.precision, self._device)
        return Reader(version, reader)

    def fits(self, reader: Reader) -> bool:
        """Whether a reader is of the precision that the gate let in, which may have come after it."""
        if self._device == "cuda":
            return True
        allowed = served_precision(self._store, self._model, reader.version)
        return allowed in (None, reader.bundle.precision)


class Follower:
    """A thread that keeps `current` as the database wants it, and says so in `replicas`."""

    def __init__(self, store: Store, loader: Loader, model: str, replica: str, poll_s: float) -> None:
        self._store, self._loader = store, loader
        self.model, self.replica, self._poll_s = model, replica, poll_s
        self.current = Serving(ServingState(model))
        self._errors: dict[str, str | None] = {}
        self._wanted: ServingState | None = None
        self._retry_at = self._beat_at = 0.0
        self._extra: OrderedDict[str, Reader] = OrderedDict()
        self._extra_lock = threading.Lock()
        self._looked_at: dict[str, float] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=work.__name__, daemon=True) for work in (self._run, self._live)
        ]

    def start(self) -> None:
        """Follow from now on."""
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    @property
    def error(self) -> str | None:
        """What keeps this replica from being as it should be."""
        return "; ".join(e for e in self._errors.values() if e) or None

    def step(self) -> None:
        """One look at the desired state. Never raises: what went wrong is in `error`."""
        before = (self.current, self.error)
        try:
            wanted = self._store.serving.get(self.model)
            self._tell("state", None)
            self._follow(wanted)
        except FAILURES as exc:
            self._tell("state", f"the desired state cannot be read: {first_line(exc)}")
        except Exception as exc:  # whatever it is, what is served goes on being served
            log.exception("following %s", self.model)
            self._tell("state", f"what should be served cannot be followed: {first_line(exc)}")
        if (self.current, self.error) != before or time.monotonic() >= self._beat_at:
            self._beat()

    def reader(self, version: str) -> Reader:
        """A reader for any registered version; those beyond the served ones are loaded when asked for."""
        served = self.current.readers.get(version)
        if served:
            return served
        with self._extra_lock:
            if version not in self._extra or not self._fits(self._extra[version]):
                self._looked_at[version] = time.monotonic()
                self._extra[version] = self._load_extra(version)
            self._extra.move_to_end(version)
            while len(self._extra) > EXTRA_VERSIONS:
                self._extra.popitem(last=False)
            return self._extra[version]

    @property
    def without_champion(self) -> bool:
        """Nobody has ever made a version champion, as far as is known."""
        return self.current.state.champion is None and (self._wanted is None or not self._wanted.champion)

    def why_not_ready(self) -> str | None:
        """None while the champion is loaded and warm, else the reason in words."""
        if self.current.state.champion:
            return None
        if self._wanted is None:
            return self.error or "the desired state has not been read yet"
        if self.without_champion:
            return self.error or f"no version of {self.model} is champion yet"
        return self.error or f"version {self._wanted.champion} of {self.model} is being loaded"

    def _run(self) -> None:
        self.step()
        while not self._stop.wait(self._poll_s):
            self.step()

    def _live(self) -> None:
        """Say that the replica lives, while it loads a model too, which may take minutes."""
        while not self._stop.wait(BEAT_S):
            if time.monotonic() >= self._beat_at:
                self._beat()

    def _follow(self, wanted: ServingState) -> None:
        """Load and swap where something changed; what failed before is tried again now and then."""
        due = time.monotonic() >= self._retry_at
        if wanted != self._wanted or (due and (self._errors.get("load") or not self._fitting())):
            self._wanted = wanted
            self._tell("load", self._load(wanted))
            due = True
        if due:
            self._retry_at = time.monotonic() + RETRY_S

    def _fitting(self) -> bool:
        """Whether all that is served is of the precision that the gate let in; one may be judged anew."""
        return all(map(self._loader.fits, self.current.readers.values()))

    def _load(self, wanted: ServingState) -> str | None:
        """Swap as soon as champion and challenger are warm; the previous one may come after."""
        readers, complaints = dict(self.current.readers), []
        state = wanted
        for role in ("champion", "challenger", "previous"):
            version = getattr(wanted, role)
            if role == "previous":
                self._swap(replace(state, previous=None), readers)
            complaint = self._ensure(version, readers)
            if complaint and role == "champion":
                return complaint
            if complaint:
                complaints.append(f"{role}: {complaint}")
                state = _without(role, state)
        self._swap(state, readers)
        return "; ".join(complaints) or None

    def _ensure(self, version: str | None, readers: dict[str, Reader]) -> str | None:
        """Load what is missing into `readers`, or is of another precision; what went wrong, if it did."""
        if version is None:
            return None
        try:
            if version in readers and self._loader.fits(readers[version]):
                return None
            readers[version] = self._loader.load(version)
        except Exception as exc:  # ONNX Runtime's errors, of memory above all, share no base of their own
            log.exception("%s version %s cannot be loaded", self.model, version)
            return f"version {version} cannot be loaded: {first_line(exc)}"
        return None

    def _swap(self, state: ServingState, readers: Mapping[str, Reader]) -> None:
        named = {v for v in (state.champion, state.challenger, state.previous) if v}
        kept = MappingProxyType({v: r for v, r in readers.items() if v in named})
        self.current = Serving(state, kept)

    def _fits(self, reader: Reader) -> bool:
        """Looked up now and then, as many may ask for the same version."""
        if time.monotonic() - self._looked_at[reader.version] < RETRY_S:
            return True
        self._looked_at[reader.version] = time.monotonic()
        try:
            return self._loader.fits(reader)
        except FAILURES:  # it reads as it did before
            return True

    def _load_extra(self, version: str) -> Reader:
        try:
            return self._loader.load(version)
        except DatabaseFailed as exc:
            raise NotReady(f"version {version} cannot be looked up: {first_line(exc)}") from exc

    def _beat(self) -> None:
        state = self.current.state
        try:
            self._store.replicas.beat(
                self.replica,
                self.model,
                os.getpid(),
                state.revision,
                state.champion,
                state.challenger,
                state.previous,
                self.error,
            )
            self._beat_at = time.monotonic() + BEAT_S
            self._tell("beat", None)
        except FAILURES as exc:
            self._tell("beat", f"the heartbeat cannot be written: {first_line(exc)}")

    def _tell(self, part: str, error: str | None) -> None:
        if error and error != self._errors.get(part):
            log.warning("%s", error)
        self._errors[part] = error


def _without(role: str, state: ServingState) -> ServingState:
    if role == "challenger":
        return replace(state, challenger=None, weight=0.0, mirror=0.0)
    return replace(state, previous=None)
