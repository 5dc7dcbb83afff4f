"""What was acknowledged survives `kill -9`, and processes share one SQLite file without failing."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redpencil.blobs import Blobs
from redpencil.store import Store

TESTS = Path(__file__).parents[1]

WRITER = """
import hashlib, os, sys, threading
from store_parts import about, block, image, prediction
from redpencil.blobs import Blobs
from redpencil.store import Store
store, blobs = Store.open(sys.argv[1], migrate=True), Blobs.open(sys.argv[2])
say = threading.Lock()

def work(n):
    count = 0
    while count < int(sys.argv[3]):
        data = [os.urandom(3000) for _ in range(3)]
        items = []
        for sha256 in blobs.put_many(data):
            picture = image("x")
            picture = type(picture)(sha256, sha256, "image/png", 1.0)
            items.append((picture, prediction(picture, id=f"pred_{sha256}", blocks=(block(0), block(1)))))
        store.predictions.add_many(items)
        corrections = [about(p, i) for i, p in items]
        store.corrections.add_many(corrections)
        with say:
            for c in corrections:
                os.write(1, f"{c.prediction} {c.id}\\n".encode())
        count += 1

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[t.start() for t in threads]
[t.join() for t in threads]
"""


def writer(folder: Path, rounds: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    command = [
        sys.executable,
        "-c",
        WRITER,
        f"sqlite:///{folder / 'redpencil.db'}",
        str(folder / "blobs"),
        str(rounds),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def acknowledged(folder: Path, lines: list[str]) -> int:
    """How many of the acknowledged items are there, each with its image, blocks and correction."""
    blobs = Blobs.open(str(folder / "blobs"))
    with Store.open(f"sqlite:///{folder / 'redpencil.db'}") as store:
        with store.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
        for line in lines:
            prediction_id, correction_id = line.split()
            kept = store.predictions.get(prediction_id)
            assert len(kept.blocks) == 2
            assert len(blobs.get(kept.image)) == 3000
            assert store.corrections.get(correction_id).prediction == prediction_id
    return len(lines)


def test_nothing_acknowledged_is_lost_when_the_writer_is_killed(tmp_path: Path) -> None:
    chance, lines = random.Random(os.getpid()), list[str]()
    for _ in range(6):
        with writer(tmp_path, rounds=10**9) as child:
            assert child.stdout is not None
            lines.append(child.stdout.readline())
            time.sleep(chance.uniform(0, 0.5))
            child.send_signal(signal.SIGKILL)
            lines += child.stdout.readlines()
        if not lines[-1].endswith("\n"):
            lines.pop()  # cut off in the middle of being said
        assert acknowledged(tmp_path, lines) == len(lines)
    assert len(lines) > 30


def test_processes_share_a_fresh_file_without_ever_failing(tmp_path: Path) -> None:
    """Four processes of four threads; all begin by making the tables."""
    children = [writer(tmp_path, rounds=15) for _ in range(4)]
    lines = [line for child in children for line in child.communicate(timeout=120)[0].splitlines()]
    assert [child.returncode for child in children] == [0] * 4
    assert acknowledged(tmp_path, lines) == 4 * 4 * 15 * 3


FULL = """
import os, sys
from pathlib import Path
from store_parts import image, prediction
from redpencil.blobs import Blobs
from redpencil.errors import NotReady
from redpencil.store import Store

folder = Path(sys.argv[1])
if os.system(f"mount -t tmpfs -o size=4m none {folder}"):
    sys.exit(77)
(folder / "filler").write_bytes(bytes(500_000))
store, blobs = Store.open(f"sqlite:///{folder}/redpencil.db", migrate=True), Blobs.open(f"{folder}/blobs")
picture = image("a")

def add(n):
    store.predictions.add_many([(picture, prediction(picture, id=f"pred_{n}", client_key="x" * 50_000))])

def fill(step):
    for n in range(10_000):
        try:
            step(n)
        except NotReady as error:
            print(error)
            return n

kept = fill(add)
assert len(store.predictions.list(limit=10_000)) == kept > 3
fill(lambda n: blobs.put(os.urandom(50_000)))
assert not list(folder.rglob("*.part"))
(folder / "filler").unlink()
add(kept)
assert len(store.predictions.list(limit=10_000)) == kept + 1
blobs.get(blobs.put(os.urandom(50_000)))
"""


def test_on_a_really_full_disk_both_say_so_and_lose_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode in (1, 77) and ("unshare" in done.stderr or "mount" in done.stderr):
        pytest.skip(f"this machine allows no mount in a namespace of one's own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is full. Nothing was stored") == 2
