"""Logs that are kept short while processes go on writing them."""

import subprocess
import sys
from pathlib import Path

import pytest

from services import logs

TELLS = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 100)


def test_who_writes_a_log_goes_on_in_it_when_it_is_shortened(tmp_path: Path) -> None:
    log, old = tmp_path / "part.log", tmp_path / "part.log.old"
    with log.open("ab") as out:
        process = subprocess.Popen([sys.executable, "-c", TELLS], stdin=subprocess.PIPE, stdout=out)
    assert process.stdin
    for said in ("short\n", 150 * "a" + "\n", "new\n"):
        before = log.stat().st_size
        process.stdin.write(said.encode())
        process.stdin.flush()
        while log.stat().st_size == before:
            pass
        logs.shorten(log)
    process.stdin.close()
    assert process.wait() == 0
    assert (old.read_text(), log.read_text()) == ("short\n" + 150 * "a" + "\n", "new\n")
    assert logs.last_words(log) == "new"


def test_where_there_is_no_room_to_put_it_aside_it_is_emptied_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    log.write_bytes(101 * b"a")
    (tmp_path / "part.log.old").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match="directory"):
        logs.shorten(log)
    assert log.stat().st_size == 0


def test_a_log_that_somebody_deleted_is_no_trouble(tmp_path: Path) -> None:
    logs.shorten(tmp_path / "gone.log")
    assert logs.last_words(tmp_path / "gone.log") == ""
