"""From corrections to a judged version: snapshot, doubt, train, export, register, judge.

Every step leaves something durable and looks for it before it works, so a cycle that was killed
anywhere goes on from there when it is run again.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from redpencil import bundle, checkpoints, trial
from redpencil.blobs import Blobs, write_durably
from redpencil.checkpoints import ASKED
from redpencil.errors import Busy, Conflict, NotFound, NotReady, RedpencilError
from redpencil.prune import prune
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import ModelVersion, Outcome, Run, RunState, Verdict
from training import reach, report, workers
from training.follow import bar
from training.freeze import freeze
from training.job import BEST, Cancelled, Ended, Job, Lines, load, restore, working
from training.learner import Learner
from training.quarantine import quarantine
from training.recipe import LineModel
from training.track import Page, patiently
from training.unlabelled import ask

log = logging.getLogger(__name__)

CHALLENGER = "challenger"
PICTURES = 4  # images that a family may show something about
ORIGIN = ("origin", "origin_sha256", "licence")

T = TypeVar("T")


def run(run_id: str, settings: Settings) -> Run:
    """Take a run through all its steps, from wherever it stands; returns it as it ended.

    What goes wrong is written on the run, in words, and raised. A cancelled run raises nothing.
    """
    store, blobs = Store.open(settings.database), Blobs.open(settings.blobs)
    try:
        now = store.runs.get(run_id)
        if now.state is RunState.SUCCEEDED:
            return now
        if now.state is RunState.CANCELLED:
            raise Conflict(f"run {run_id} was cancelled; start a new one")
        return Cycle(store, blobs, settings, now).run()
    finally:
        store.close()


class Cycle:
    """One run on its way."""

    def __init__(self, store: Store, blobs: Blobs, settings: Settings, run: Run) -> None:
        self.store, self.blobs, self.settings, self.id = store, blobs, settings, run.id
        self.job: Job | None = None
        self.page: Page | None = None
        self.started_at = run.started_at or time.time()
        self.seconds: dict[str, float] = {}

    def run(self) -> Run:
        patiently(self.begin)
        try:
            done = self.steps()
        except Cancelled as error:
            tidy(self.settings, self.id)
            return self.end(RunState.CANCELLED, "KILLED", str(error))
        except SystemExit:  # SIGTERM: a cancelled run is over, any other one will be resumed
            if self.store.runs.cancel_requested(self.id):
                tidy(self.settings, self.id)
                self.end(RunState.CANCELLED, "KILLED", "cancelled on request")
            raise
        except Exception as error:
            self.end(RunState.FAILED, "FAILED", words(error))
            raise
        tidy(self.settings, self.id)
        return done

    def begin(self) -> None:
        clear(self.store, self.settings)
        try:
            prune(self.store, self.blobs, self.settings)
        except OSError as error:
            log.warning("bundles that nobody uses are left where they are: %s", error)
        fresh = {"state": RunState.RUNNING, "pid": os.getpid(), "error": None, "finished_at": None}
        self.store.runs.update(self.id, started_at=self.started_at, **fresh)

    def steps(self) -> Run:
        """The whole cycle, from top to bottom."""
        store, blobs = self.store, self.blobs
        job = self.job = self.phase("snapshot", self.freeze)
        job = self.job = self.phase("doubt", partial(quarantine, job, store, blobs))
        if job.hyper.unlabelled:
            job = self.job = self.phase("teacher", partial(ask, job, store, blobs))
        ended = self.phase("train", lambda: self.train(job))
        folder = self.phase("export", lambda: self.export(job))
        version = self.phase("register", lambda: self.register(job, ended, folder))
        verdict = self.phase("judge", lambda: self.judge(job, version))
        self.phase("announce", lambda: self.announce(job, version, verdict))
        return self.end(RunState.SUCCEEDED, "FINISHED")

    def freeze(self) -> Job:
        return freeze(self.store, self.store.runs.get(self.id), self.settings)

    def train(self, job: Job) -> Ended:
        """Run the loop, unless it has been; leaves best.pt and ended.json."""
        kept = job.folder / "ended.json"
        if kept.exists():
            return Ended(**json.loads(kept.read_text("utf-8")))
        self.page = Page(job)
        try:
            self.store.runs.update(self.id, mlflow_run=self.page.id)
        except (Busy, NotReady) as error:
            log.warning("training starts, and its page in MLflow is told later: %s", error)
        with bar(self.store, self.id):
            ended = workers.train(job)
        if ended.how == "cancelled":
            raise Cancelled(ended.why)
        if ended.how == "failed":
            raise RedpencilError(ended.why)
        write_durably(kept, json.dumps(asdict(ended)).encode())
        self.store.runs.update(self.id, progress=final(ended))
        return ended

    def export(self, job: Job) -> Path:
        """The bundle of the best checkpoint, in a folder and among the blobs."""
        folder, beside = job.folder / "bundle", job.folder / "bundle.part"
        if not folder.exists():
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir()
            lines = job.lines(self.blobs)
            model = self.tuned(job, lines)
            shown = lines.shown()
            reached = {"reach": job.reach} if isinstance(model, LineModel) else {}
            model.to_bundle(beside, shown, self.lineage(job) | reached)
            if parent := self.parent(job):
                met = [*lines.learn, *lines.validate, *lines.again]
                new, known = ([x for x in met if (x.key in job.known) is k] for k in (False, True))
                model.keep_before(beside, parent, new, known)
            looked_at = [*{x.image_id: x for x in shown}.values()][:PICTURES]
            write_all(job.folder / "pictures", model.pictures([x.image for x in looked_at]))
            beside.rename(folder)
        bundle.put(folder, self.blobs)
        return folder

    def tuned(self, job: Job, lines: Lines) -> Learner:
        """The best checkpoint, no further from its parent than the job says, for lines that it knows."""
        model = job.build(self.blobs, lines)
        before = reach.state(model)
        restore(model, load(job.folder / BEST))
        if isinstance(model, LineModel):
            reach.go(model, before, reach.state(model), job.reach)
            met = [*lines.again, *lines.learn, *lines.validate, *lines.read]
            model.know(met, lines.rehearse, lines.primer, before=job.known)
        return model

    def lineage(self, job: Job) -> dict[str, Any]:
        """Where the bundle comes from; origin and licence of the base go with all its descendants."""
        own: dict[str, str | None] = {"run": job.taught_by, "recipe": job.run.recipe}
        own["snapshot"] = job.snapshot.id
        own |= {"parent": job.run.params["parent"], "parent_bundle": job.parent}
        if checkpoints.asked(job.run):
            own[ASKED] = job.run.params[ASKED]
        before = self.parent(job)
        inherited = bundle.Manifest.load(before).lineage if before else {}
        return {k: v for k, v in inherited.items() if k in ORIGIN} | own

    def parent(self, job: Job) -> Path | None:
        """The folder of the bundle that the run goes on from."""
        return bundle.fetch(job.parent, self.blobs, self.settings.home / "bundles") if job.parent else None

    def register(self, job: Job, ended: Ended, folder: Path) -> str:
        """The version in MLflow and in the store; the run's page gets curve, table and report."""
        if job.run.version:
            return job.run.version
        page = self.page = self.page or Page(job)
        self.store.runs.update(self.id, mlflow_run=page.id)
        name, model, parent = bundle.bundle_id(folder), job.run.model, job.run.params["parent"]
        shown = report.samples(job, self.blobs, self.parent(job), folder)
        report.publish(page, ended, shown, name, self.seconds)
        for picture in sorted((job.folder / "pictures").glob("*.png")):
            page.file(f"report/{picture.name}", picture.read_bytes())
        tags = {"snapshot": job.snapshot.id, "bundle.sha256": name, "recipe": job.run.recipe}
        tags |= {"parent": parent or "", "precision": bundle.Manifest.load(folder).precision.value}
        told = f"{job.run.recipe} trained by {job.taught_by} on {len(job.new)} corrections"
        if job.again:
            told += f" and again on {len(job.again)} that its parent knew"
        if job.read:
            told += (
                f", and on {len(job.read)} that nobody corrected, as {job.run.params['teacher']} reads them"
            )
        if of := checkpoints.asked(job.run):
            told += f", as it was after epoch {of[1]}"
        if job.left_out:
            told += f"; {len(job.left_out)} were left out as probably wrong"
        version = page.registry.register(model, folder, tags, page.id, told)
        # Had it been registered before a machine was lost, that bundle counts, not one exported anew.
        name = page.registry.tags(model, version)["bundle.sha256"]
        made = ModelVersion(model, version, name, time.time(), parent, job.snapshot.id, job.taught_by)
        self.store.versions.add(made)
        self.store.runs.update(self.id, version=version)
        return version

    def judge(self, job: Job, version: str) -> Verdict:
        """The gate's verdict on what would be served."""
        if (known := self.store.versions.verdict(job.run.model, version)) is not None:
            return known
        return trial.hold(self.store, self.blobs, self.settings, job.run.model, version)

    def announce(self, job: Job, version: str, verdict: Verdict) -> None:
        """Tell MLflow the verdict; a passing version becomes challenger, unless one is being compared."""
        page = self.page = self.page or Page(job)
        model = job.run.model
        page.registry.log_verdict(model, version, verdict)
        page.scores(verdict.scores, verdict.judged_at)
        today = self.store.serving.get(model).champion or ""
        passed = verdict.outcome is Outcome.PASSED and verdict.champion == today
        if passed and self.store.experiments.current(model) is None:
            page.registry.set_alias(model, CHALLENGER, version)

    def end(self, state: RunState, status: Literal["FINISHED", "FAILED", "KILLED"], why: str = "") -> Run:
        """Write how the run ended, here and in MLflow; being unable to tell MLflow changes nothing."""
        if self.page:
            try:
                self.page.end(status, why)
            except RedpencilError as error:
                log.warning("MLflow does not know that run %s ended: %s", self.id, error)
        fields = {"state": state, "error": why or None, "finished_at": time.time(), "pid": None}
        return patiently(lambda: self.store.runs.update(self.id, **fields))

    def phase(self, name: str, work: Callable[[], T]) -> T:
        """Say which step the run is in, stop here if it was cancelled, do it, and take the time.

        Where a part that it needs goes away for a moment the step waits for it, and begins anew.
        """
        patiently(lambda: self.enter(name))
        started = time.monotonic()
        done = patiently(work)
        self.seconds[name] = round(time.monotonic() - started, 2)
        log.info("%s %s: %.1f s", self.id, name, self.seconds[name])
        return done

    def enter(self, phase: str) -> None:
        if self.store.runs.cancel_requested(self.id):
            raise Cancelled("cancelled on request")
        self.store.runs.update(self.id, phase=phase)


def final(ended: Ended) -> dict[str, Any]:
    """The progress of a run that has trained: how far it went, and the best that it kept."""
    last, best = ended.history[-1], ended.best
    went = {"epoch": last["epoch"], "epochs": last["epoch"], "step": last["step"], "steps": last["step"]}
    return {**went, "loss": best["loss"], "val_cer": best.get("val_cer"), "eta_s": 0.0}


def words(error: Exception) -> str:
    """An error for the person who asked for the run."""
    return str(error) if isinstance(error, RedpencilError) else f"{type(error).__name__}: {error}"


def write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put files into a folder; nothing where there are none."""
    for name, content in files.items():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def tidy(settings: Settings, run: str) -> None:
    """Remove what only an unfinished run needs: its checkpoints, then its working folder."""
    try:
        workers.forget(settings, run)
    except OSError as error:
        log.warning("the checkpoints of %s are left where they are: %s", run, error)
    else:
        shutil.rmtree(working(settings, run), ignore_errors=True)


def clear(store: Store, settings: Settings) -> None:
    """The same of runs that were killed when they were over, or while they were cancelled."""
    for folder in working(settings, "").glob("run_*"):
        try:
            over = store.runs.get(folder.name).state in (RunState.SUCCEEDED, RunState.CANCELLED)
        except NotFound:  # of another database
            continue
        if over:
            tidy(settings, folder.name)
