"""Corrections, frozen into a reproducible training set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redpencil import checkpoints
from redpencil.types import Correction, Member, ModelVersion, Run, Snapshot, Split, Task

if TYPE_CHECKING:
    from redpencil.store import Store


def side_of(group: str) -> Split:
    """The side on which all images of a group stand for life: one group in five is held out.

    A constant. Changing it would train on what was once held out.
    """
    digest = hashlib.sha256(f"redpencil-split-v1:{group}".encode()).digest()
    return Split.HOLDOUT if int.from_bytes(digest[:8], "big") * 5 < 2**64 else Split.TRAIN


def take(store: Store, task: Task) -> Snapshot:
    """Freeze every live correction of a task into a reproducible training set, and store it.

    The same corrections always give the same id. An image keeps its side for life, so no holdout
    image is ever trained on. Of several corrections of one place the latest wins; of captions, which
    may say the same image in several ways, the latest of each author.
    """
    members = tuple(_member(c) for c in store.corrections.live(task))
    snapshot = Snapshot(_digest(task, members), task, members)
    store.snapshots.put(snapshot)
    return snapshot


def outdated(store: Store, run: Run) -> list[str]:
    """What a run would still learn that counts no longer: revoked, or its place corrected anew."""
    if run.snapshot is None or run.version is not None or checkpoints.asked(run):
        return []
    kept = store.snapshots.get(run.snapshot)
    live = {c.id for c in store.corrections.live(kept.task)} | store.doubts.left_out(run.id)
    return [m.correction for m in kept.side(Split.TRAIN) if m.correction not in live]


def learned(store: Store, version: ModelVersion | None) -> set[str]:
    """The corrections that a version or its ancestors learned from: the training part of their
    snapshots, as far as their runs did not leave them out."""
    return store.versions.learned_by(version.model, version.version) if version else set()


def manifest(snapshot: Snapshot) -> bytes:
    """Canonical JSON of what is in a snapshot; its sha256 is the snapshot's id."""
    return _canonical(snapshot.task, snapshot.members)


def _digest(task: Task, members: Sequence[Member]) -> str:
    return hashlib.sha256(_canonical(task, members)).hexdigest()


def _canonical(task: Task, members: Sequence[Member]) -> bytes:
    ordered = sorted(members, key=lambda m: m.correction)
    content = {"format": 1, "task": task.value, "members": [_plain(m) for m in ordered]}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _plain(m: Member) -> dict[str, Any]:
    return {
        "correction": m.correction,
        "image": m.image,
        "group": m.group,
        "page": m.page,
        "polygon": [[float(x), float(y)] for x, y in m.polygon],
        "text": m.text,
        "split": m.split.value,
    }


def _member(c: Correction) -> Member:
    return Member(c.id, c.image, c.group, c.page, c.polygon, c.text, side_of(c.group))
