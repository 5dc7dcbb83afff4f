"""A trial as a command: a page or JSON, and a status that says whether it passed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from trial_house import GOLDEN, Gallery, House, pictures

from redpencil import trial
from redpencil.types import Split


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    yield made
    made.store.close()


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    made = Gallery(tmp_path / "home")
    yield made
    made.store.close()


@pytest.fixture
def command(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setenv("REDPENCIL_HOME", str(house.settings.home))
    monkeypatch.setattr(trial.linepack, "load", lambda name: GOLDEN)
    return house


def test_the_command_prints_a_page_and_says_passed_by_its_status(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    command.version("1")
    assert trial.main(["ocr", "1"]) == 0
    assert capsys.readouterr().out.startswith("# Version 1: passed")


def test_the_command_prints_json_and_says_not_passed_by_its_status(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    command.version("1", misread=dict.fromkeys("adlo", "q"))
    assert trial.main(["ocr", "1", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["outcome"] == "failed"


def test_the_command_says_what_is_wrong_where_nothing_can_be_judged(
    command: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trial.main(["ocr", "7"]) == 2
    assert "7" in capsys.readouterr().err


def test_the_command_judges_the_caption_model_by_captions(
    gallery: Gallery, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDPENCIL_HOME", str(gallery.settings.home))
    pictures(gallery, Split.HOLDOUT)
    gallery.version("1")
    assert trial.main([gallery.model, "1"]) == 0
    page = capsys.readouterr().out
    assert "| images | captions of | BLEU1 |" in page
    assert "| holdout | candidate | 1.000 |" in page
