"""A replica that starts before its database."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from serving_parts import Home, serving

from redpencil import patience
from redpencil.errors import NotReady
from redpencil.settings import Settings
from serving.models import PATIENCE_S, opened_store


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> list[float]:
    """Let this happen in every pause, all of which are short; the list's last is the time."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        happens()
        now.append(now[-1] + seconds)

    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=lambda: now[-1], sleep=sleep))
    return now


def test_serving_waits_for_a_database_that_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home = Home(tmp_path)
    home.serve("1")
    home.store.close()
    file, away = tmp_path / "redpencil.db", tmp_path / "away"
    file.rename(away)
    file.mkdir()  # in its place stands what cannot be opened

    def comes() -> None:
        file.rmdir()
        away.rename(file)

    waited = meanwhile(monkeypatch, comes)

    async def work(client: object, models: object) -> None:
        assert models.ocr.state.state.champion == "1"  # type: ignore[attr-defined]

    serving(home, work)
    assert waited == [0.0, 1.0]
    assert caplog.text.count("waiting, for 600 s at most: The database") == 1


def test_a_database_that_stays_away_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redpencil.db").mkdir()
    waited = meanwhile(monkeypatch, lambda: None)
    with pytest.raises(NotReady, match="unable to open"):
        opened_store(Settings(home=tmp_path))
    assert waited[-1] == PATIENCE_S
