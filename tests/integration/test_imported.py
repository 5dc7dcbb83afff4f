"""Pre-trained weights become a version; what cannot be imported says what to do instead."""

import sys
from fnmatch import fnmatch
from pathlib import Path

import huggingface_hub
import pytest
from typer.testing import CliRunner

from redpencil.errors import BadInput
from redpencil.settings import Settings
from services import cli
from training import imported, pretrained


def test_a_model_may_be_named_beside_the_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REDPENCIL_HOME", str(tmp_path))
    words = ("--model", "caption", "--vision", "/no/clip", "--language", "/no/lm", "--set", "prefix=4")
    said = CliRunner().invoke(cli.app, ["import", "clip_prefix", *words])
    assert said.exit_code == 1
    assert "there is no folder /no/clip" in said.output


def test_its_parameters_stand_on_either_side_of_the_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["clip_prefix", "prefix=4", "--model", "caption", "vision=/no/clip"]
    monkeypatch.setattr(sys, "argv", ["imported", *given])
    assert imported.main() == 1
    assert "there is no folder /no/clip" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["catr", "vit_gated"])
def test_a_family_that_learns_its_words_is_trained_and_not_imported(name: str) -> None:
    with pytest.raises(BadInput, match=f"{name} cannot be imported: .*`redpencil dataset FOLDER`") as said:
        imported.bring_in(name, {}, Settings())
    assert f"`redpencil retrain --model caption --recipe {name}`" in str(said.value)


@pytest.mark.parametrize("published", [["model.safetensors"], ["pytorch_model.bin"]])
def test_a_model_without_newer_weights_is_fetched_with_its_older_ones(
    published: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        for file in published:
            if any(fnmatch(file, pattern) for pattern in allow_patterns):
                (tmp_path / file).touch()
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert pretrained.folder_of("somebody/model") == tmp_path
    assert [file.name for file in tmp_path.iterdir()] == published
    assert asked == ["somebody/model"] * (1 if "model.safetensors" in published else 2)
