"""Starts Ray, sends a job to its workers, and brings the best checkpoint home."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pyarrow.fs import FileSystem, FileType

from redpencil import checkpoints
from redpencil.blobs import Blobs, write_durably
from redpencil.errors import NotFound, RedpencilError
from redpencil.settings import Settings
from redpencil.store import Store
from training.device import memory, precision
from training.job import BEST, Ended, Job, described, load
from training.priority import CALM, current

if TYPE_CHECKING:
    from training.place import Kept

log = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 128 * 2**20
RAY_ENVIRONMENT = {
    **CALM,
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # folders that a run names are where the run was asked for
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    # Ray puts its workers at nice 15, which starves their start and does not spare serving.
    "RAY_worker_niceness": "0",
    # At idle priority beside a busy server anything may take minutes; that is no death.
    "RAY_health_check_failure_threshold": "100",
    "RAY_worker_register_timeout_seconds": "900",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "900",
}
STARTS = 4
"""How often Ray is started: it waits 30 s for itself, which at idle priority may be too little."""
WORKER_DEATHS = 2  # how often a run goes on after losing a worker


def train(job: Job) -> Ended:
    """Run the job's loop to its end; where it is done the best checkpoint lies in job.folder as BEST.

    The same job again goes on from its latest checkpoint, or, when it was over, ends at once. Of a job
    that makes a version of another run's checkpoint that one is the best.
    """
    if of := checkpoints.asked(job.run):
        return taken(job, *of)
    if workers(job.settings) == 0:
        return fit(job)
    with cluster(job.settings):
        return fit(job)


def taken(job: Job, run: str, epoch: int) -> Ended:
    """How the run stood at a checkpoint that outlives it, which lies in job.folder as BEST."""
    files, folder = checkpoints.folder(job.settings, run)
    path = f"{folder}/{checkpoints.file(epoch)}"
    try:
        with files.open_input_stream(path) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise NotFound(f"the checkpoint {path} is gone; `redpencil checkpoint {run}` lists others") from error
    job.folder.mkdir(parents=True, exist_ok=True)
    write_durably(job.folder / BEST, content)
    state = load(job.folder / BEST)
    return Ended("done", "", state["history"], state["epoch"])


def workers(settings: Settings) -> int:
    """How many workers Ray Train starts; 0: the run's own process does the work, without a cluster."""
    return settings.train_workers or (1 if os.environ.get("RAY_ADDRESS") else 0)


def fit(job: Job) -> Ended:
    """The same on a Ray that is up, or on none."""
    from ray.train import TrainingFailedError

    try:
        result = _trainer(job).fit()
    except TrainingFailedError as error:
        log.error("the workers failed for good", exc_info=error)
        last = next(iter(getattr(error, "worker_failures", {}).values()), error)
        why = f"{type(last).__name__}: {last}"
        raise RedpencilError(
            f"training failed {WORKER_DEATHS + 1} times, the last time with {why}"
        ) from error
    ended: Ended = result.return_value
    if ended.how == "done":
        _fetch_best(job, result)
        (job.folder / BEST).with_suffix(".json").write_bytes(described(job.about, ended.best))
    return ended


def storage(settings: Settings, run: str) -> tuple[FileSystem, str]:
    """Where a run's checkpoints lie: a file system and a folder in it."""
    files, path = FileSystem.from_uri(_storage(settings))
    return files, f"{path}/{run}"


def lasting(job: Job) -> Kept:
    """Where those of the job's checkpoints lie that outlive it: at home, or with the others in a store."""
    from training.place import Kept

    return Kept(*checkpoints.folder(job.settings, job.run.id), job.hyper.keep_every, job.about)


def forget(settings: Settings, run: str) -> None:
    """Delete a run's checkpoints."""
    files, folder = storage(settings, run)
    if files.get_file_info(folder).type is FileType.Directory:
        with suppress(FileNotFoundError):  # another process was quicker
            files.delete_dir(folder)


@contextmanager
def cluster(settings: Settings) -> Iterator[None]:
    """A Ray of our own, as small as can be, or the cluster at RAY_ADDRESS; left at the end."""
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if not os.environ.get("RAY_ADDRESS"):
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    _start_ray(settings)
    signal.signal(signal.SIGTERM, handler)  # Ray's own prints a stack and aborts
    try:
        yield
    finally:
        ray.shutdown()


def _start_ray(settings: Settings) -> None:
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    cores = max(os.cpu_count() or 1, settings.train_workers)
    small = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    for left in reversed(range(STARTS)):
        try:
            ray.init(address="local", num_cpus=cores, **small, **quiet)
            return
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
            log.warning("Ray was not up within its 30 s, which is fixed; starting it again", exc_info=error)
            ray.shutdown()


def _trainer(job: Job) -> Any:
    from ray import train
    from ray.train.torch import TorchTrainer

    count = workers(job.settings)
    share = max(1, threads(job.settings) // max(1, count))
    keep = train.CheckpointConfig(
        num_to_keep=1, checkpoint_score_attribute="score", checkpoint_score_order="min"
    )
    return TorchTrainer(
        work,
        train_loop_config={"job": job, "alone": count == 0},
        scaling_config=train.ScalingConfig(
            num_workers=count,
            use_gpu=a_gpu_each(count),
            resources_per_worker={"CPU": share},
        ),
        run_config=train.RunConfig(
            name=job.run.id,
            storage_path=_storage(job.settings),
            failure_config=train.FailureConfig(max_failures=WORKER_DEATHS),
            checkpoint_config=keep,
            logging_config=train.LoggingConfig(log_level="WARNING"),
        ),
    )


def a_gpu_each(count: int) -> bool:
    """Whether every worker gets a GPU; where some would go without, none has one, and the log says so."""
    import ray

    there = int(ray.cluster_resources().get("GPU", 0)) if count else 0
    if 0 < there < count:
        log.warning("%d workers train on CPUs: there are %d GPUs (REDPENCIL_TRAIN_WORKERS)", count, there)
    return 0 < count <= there


def threads(settings: Settings) -> int:
    """Threads that training computes with on one machine."""
    return settings.train_threads or os.cpu_count() or 1


def work(config: dict[str, Any]) -> Ended:
    """What every worker runs; only the first one's answer counts."""
    from ray import train

    from training.follow import Follower, Live
    from training.loop import Loop
    from training.place import Alone, Worker
    from training.track import Page, patiently

    job: Job = config["job"]
    context = train.get_context()
    torch.set_num_threads(max(1, threads(job.settings) // context.get_local_world_size()))
    kept = lasting(job)
    place = Alone(*storage(job.settings, job.run.id), kept) if config["alone"] else Worker(kept)
    store, blobs = patiently(lambda: Store.open(job.settings.database)), Blobs.open(job.settings.blobs)
    try:
        with Live(Page(job)) as live:
            lines = job.lines(blobs)
            model = job.build(blobs, lines)
            model.expect(job.settings)
            loop = Loop(job.suited, model, lines, Follower(store, job.run.id, live), place)
            return replace(loop.run(), machine=_machine(loop))
    except RedpencilError as error:
        # Trying again would not help; alone, a worker may say so instead of being restarted.
        if context.get_world_size() > 1:
            raise
        return Ended("failed", str(error))
    finally:
        store.close()


def _machine(loop: Any) -> dict[str, str]:
    return {
        "workers": str(loop.world),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if loop.device.type == "cuda" else "cpu",
        "precision": precision(loop.device, loop.hyper),
        "priority": current(),
        "torch": torch.__version__,
        **memory(loop.device),
    }


def _storage(settings: Settings) -> str:
    return settings.storage if "://" in settings.storage else str(Path(settings.storage).absolute())


def _fetch_best(job: Job, result: Any) -> None:
    from training.place import FILE

    job.folder.mkdir(parents=True, exist_ok=True)
    if result.best_checkpoints:
        checkpoint, _ = min(result.best_checkpoints, key=lambda kept: kept[1]["score"])
        with checkpoint.as_directory() as there:
            best = Path(there, FILE).read_bytes()
    else:  # training/place.py, Alone
        files, folder = storage(job.settings, job.run.id)
        with files.open_input_stream(f"{folder}/{BEST}") as file:
            best = file.read()
    write_durably(job.folder / BEST, best)
