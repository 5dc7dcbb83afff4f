"""Follows the registry's alias `champion`: what a person points at there is served, if the gate allows.

The registry proposes, the database decides. Where both differ, either the alias is news (a person
moved it: judge, then promote or refuse), or the database is (a transition is still owed to the
registry: `promote.settle`). MLflow may be down at any moment; then nothing changes.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from redpencil import bundle
from redpencil.blobs import Blobs
from redpencil.errors import Conflict, NotFound, NotReady, RedpencilError
from redpencil.registry import Registry
from redpencil.store import Store
from redpencil.store.corrections import DEPLOYING
from redpencil.types import ModelVersion, Outcome, ServingState, Verdict
from services import promote
from services.judge import Judge
from services.promote import CHAMPION, OURSELVES

log = logging.getLogger(__name__)

OVERRIDE_TAG, REFUSED_TAG, VERDICT_TAG = "gate.override", "gate.refused", "gate.verdict"
REGISTRY = "mlflow"
DANGLING_S = 30.0
LONGEST_TAG = 5000
DELETED = (
    "version {} was deleted in MLflow and is served all the same, from its bundle; "
    "point the alias champion at another version, or promote one"
)


@dataclass(frozen=True)
class Standing:
    """How registry and serving stand to each other, in a word and a sentence."""

    state: str
    why: str = ""
    version: str | None = None
    at: float = 0.0


class Reconciler:
    """One look at one model is `tick`; `run` looks at all of them every `every_s` seconds."""

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        registry: Registry,
        judge: Judge,
        models: tuple[str, ...],
        every_s: float,
    ) -> None:
        self._store, self._blobs, self._registry, self._judge = store, blobs, registry, judge
        self._models, self._every_s = models, every_s
        self._awake = threading.Event()
        self.standings: dict[str, Standing] = {model: Standing("starting") for model in models}

    def run(self, stopping: threading.Event) -> None:
        """Until told to stop. Trials of the gate run as children of this thread and end with it."""
        while not stopping.is_set():
            self._awake.clear()
            for model in self._models:
                self.tick(model)
            self._go_on_judging()
            self._awake.wait(self._every_s)
        self._judge.stop()

    def _go_on_judging(self) -> None:
        try:
            self._judge.work()
        except OSError:  # no room for a process or its log: asked for again at the next look
            log.exception("starting a trial of the gate")

    def wake(self) -> None:
        """Look at once."""
        self._awake.set()

    def tick(self, model: str) -> Standing:
        """One look; what goes wrong is in the standing, and tried again at the next."""
        try:
            now = self._follow(model)
        except NotReady as error:
            now = Standing("stalled", str(error))
        except Conflict:
            now = Standing("following", "what is served was changed at the same moment; looking again")
        except RedpencilError as error:
            now = Standing("error", str(error))
        except Exception as error:  # the watch must outlive whatever a database or a disk does
            log.exception("reconciling %s", model)
            now = Standing("error", f"{type(error).__name__}: {error}")
        self._enter(model, now)
        return self.standings[model]

    def _enter(self, model: str, now: Standing) -> None:
        before = self.standings.get(model)
        if before is None or (before.state, before.why, before.version) != (now.state, now.why, now.version):
            if now.state != "empty":  # a model that nobody has brought is no news
                log.info("%s: %s %s", model, now.state, now.why)
            self.standings[model] = Standing(now.state, now.why, now.version, time.time())

    def _follow(self, model: str) -> Standing:
        state = self._store.serving.get(model)  # before the alias: see `promote.point`
        self._end_dangling_experiment(state)
        if promote.owed(self._store, model):
            state = promote.settle(self._store, self._registry, model)
            return _agreeing(state)
        alias = self._registry.alias(model, CHAMPION)
        if alias is None:
            return self._without_alias(model, state)
        if alias == state.champion:
            return self._agreed(model, state)
        return self._consider(model, alias, state)

    def _agreed(self, model: str, state: ServingState) -> Standing:
        """A refusal stays to be read until something new happens."""
        before = self.standings.get(model)
        if before is not None and before.state == "refused" and before.version != state.champion:
            return before
        return _agreeing(state)

    def _without_alias(self, model: str, state: ServingState) -> Standing:
        if state.champion is not None:
            if promote.point(self._registry, state, {CHAMPION}):
                return Standing("deleted", DELETED.format(state.champion), state.champion)
            why = f"the alias {CHAMPION} was deleted in the registry; restored, as it is what is served"
            said = promote.entry(model, "restore", OURSELVES, why, state.champion, state.champion)
            self._store.ledger.append(said)
            return _agreeing(state)
        first = self._first(model)
        if first is None:
            return Standing("empty", f"no version of {model} is registered yet")
        before = self.standings.get(model)
        if before is not None and (before.state, before.version) == ("refused", first):
            return before  # judged once; a person may point the alias at it, or at another, to try again
        return self._consider(model, first, state)

    def _first(self, model: str) -> str | None:
        """With which version a model begins: the first that passed, else is unjudged, else the latest."""
        known = sorted((v.version for v in self._store.versions.list(model)), key=_number)
        said = {v: promote.standing(self._store, model, v) for v in known}
        passed = [v for v in known if (word := said[v]) and word.outcome is Outcome.PASSED]
        return next(iter([*passed, *(v for v in known if said[v] is None), *known[::-1]]), None)

    def _consider(self, model: str, version: str, state: ServingState) -> Standing:
        """The alias points at something that is not served: let it in, or say why not."""
        try:
            self._know(model, version)
        except NotReady:
            raise
        except RedpencilError as error:
            return self._refuse(model, version, f"it holds no bundle that can be served: {error}")
        tags = self._registry.tags(model, version)
        override = _override(tags)
        if override is not None and not self._spent(model, version, override):
            return self._promote(model, version, *override, "override")
        verdict = promote.standing(self._store, model, version)
        if verdict is None:
            return self._have_judged(model, version)
        decided = self._decide(model, version, state, verdict, tags)
        if tags.get(VERDICT_TAG) != verdict.outcome.value:
            self._registry.log_verdict(model, version, verdict)
        return decided

    def _decide(
        self, model: str, version: str, state: ServingState, verdict: Verdict, tags: dict[str, str]
    ) -> Standing:
        if verdict.outcome is not Outcome.PASSED:
            return self._refuse(model, version, _reasons(verdict, tags))
        if state.champion is None:
            return self._promote(model, version, OURSELVES, "the first version of this model", "adopt")
        who, why = self._asked_by(model, version)
        return self._promote(model, version, who, why, "promote")

    def _asked_by(self, model: str, version: str) -> tuple[str, str]:
        """Who wants it: the person who asked by API and has had no answer, else whoever moved the alias."""
        for e in promote.entries(self._store, model):
            if e.action == "ask" and e.to_version == version:
                return e.who, e.why
            if e.action in ("ask", *DEPLOYING) or (e.action, e.to_version) == ("refuse", version):
                break
        return REGISTRY, f"the alias {CHAMPION} was moved in the registry"

    def _promote(self, model: str, version: str, who: str, why: str, action: str) -> Standing:
        promote.promote(self._store, model, version, who, why, action)
        return _agreeing(promote.settle(self._store, self._registry, model))

    def _spent(self, model: str, version: str, override: tuple[str, str]) -> bool:
        """Whether this override has let the version in before; what somebody said once holds once."""
        said = _line(*override)  # as one line: a name with a colon is cut elsewhere in the tag
        return any(
            (e.action, e.to_version, _line(e.who, e.why)) == ("override", version, said)
            for e in promote.entries(self._store, model)
        )

    def _refuse(self, model: str, version: str, why: str) -> Standing:
        promote.refuse(self._store, model, version, self._asked_by(model, version)[0], why)
        self._registry.set_tags(model, version, {REFUSED_TAG: why[:LONGEST_TAG]})
        state = self._store.serving.get(model)
        promote.point(self._registry, state, {CHAMPION})
        if state.champion is None:
            self._registry.delete_alias(model, CHAMPION)
        return Standing("refused", why, version)

    def _have_judged(self, model: str, version: str) -> Standing:
        if (words := self._judge.failure(model, version)) is not None:
            return self._refuse(model, version, f"the gate could not judge it: {words}")
        place = self._judge.ask(model, version)
        now = self._judge.now
        beside = f"; {now[0]} {now[1]} is being judged first" if place == "waiting" and now else ""
        told = f"{promote.unjudged(self._store, model, version)}, so the gate judges it{beside}"
        return Standing(place, told, version)

    def _know(self, model: str, version: str) -> None:
        """Make a version that was registered by hand known, if what it holds is a bundle."""
        try:
            self._store.versions.get(model, version)
        except NotFound:
            with tempfile.TemporaryDirectory(prefix="redpencil-adopt-") as scratch:
                folder = self._registry.download(model, version, Path(scratch))
                kept = bundle.put(folder, self._blobs)  # loads the manifest and checks every hash
            self._store.versions.add(ModelVersion(model, version, kept, time.time()))

    def _end_dangling_experiment(self, state: ServingState) -> None:
        """An experiment whose start or end was cut off halfway is over."""
        current = self._store.experiments.current(state.model)
        if current is None or current.id == state.experiment or time.time() - current.started_at < DANGLING_S:
            return
        self._store.experiments.end(current.id, "it is not what is served (cut off while starting or ending)")


def _agreeing(state: ServingState) -> Standing:
    return Standing("agreed", f"registry and serving both say {state.champion}", state.champion)


def _override(tags: dict[str, str]) -> tuple[str, str] | None:
    """Name and reason of a person's override; both must be there."""
    who, colon, why = tags.get(OVERRIDE_TAG, "").partition(":")
    return (who.strip(), why.strip()) if colon and who.strip() and why.strip() else None


def _line(who: str, why: str) -> str:
    return "".join(f"{who}:{why}".split())


def _reasons(verdict: Verdict, tags: dict[str, str]) -> str:
    said = f"the gate says {verdict.outcome.value}: {'; '.join(verdict.reasons)}"
    if _override(tags):
        said += f". The override {tags[OVERRIDE_TAG][:100]!r} was used before and holds once"
    elif tags.get(OVERRIDE_TAG):
        said += f". The tag {OVERRIDE_TAG} must read NAME: REASON, it reads {tags[OVERRIDE_TAG][:100]!r}"
    return said


def _number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (10**9, version)
