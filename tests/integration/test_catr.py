"""catr: sizes and weights that cannot be its own are refused before anything is learned."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision

from redpencil.errors import BadInput
from training.recipes import catr

SMALL = replace(
    catr.RECIPE.defaults, backbone="resnet18", side=32, hidden=32, heads=2, inner=32, encoder_layers=1
)
SMALL = replace(SMALL, decoder_layers=1)
TEXTS = ["one red bar", "two blue bars"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"hidden": 250}, "hidden must be a multiple of heads, 2, and of 4 .*, not 250"),
        ({"hidden": 32, "heads": 5}, "hidden must be a multiple of heads, 5"),
        ({"hidden": 0}, "hidden must be a multiple"),
        ({"heads": 0}, "heads, inner and decoder_layers must be at least 1"),
        ({"decoder_layers": 0}, "decoder_layers must be at least 1"),
        ({"encoder_layers": -1}, "encoder_layers 0"),
        ({"dropout": 1.5}, "dropout is a share, 0 or more and below 1, not 1.5"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        catr.build(None, TEXTS, replace(SMALL, **wrong))


def test_the_smallest_sizes_look_and_write() -> None:
    model = catr.build(None, TEXTS, replace(SMALL, hidden=4, heads=1, encoder_layers=0)).eval()
    assert model.encode(torch.zeros(1, 3, 32, 32))["0.key"].shape == (1, 1, 1, 4)


@pytest.mark.parametrize("content", [b"", b"hello", b"no weights at all", b"PK\x03\x04"])
def test_a_file_that_holds_no_weights_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "backbone.pth").write_bytes(content)
    with pytest.raises(BadInput, match=r"backbone\.pth holds no weights of torchvision's resnet18"):
        catr.build(None, TEXTS, replace(SMALL, backbone_weights=str(tmp_path / "backbone.pth")))


def test_weights_of_another_resnet_are_refused_and_its_own_are_taken(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18()
    chosen = replace(SMALL, backbone_weights=str(tmp_path / "backbone.pth"))
    torch.save(theirs.state_dict(), tmp_path / "backbone.pth")
    assert torch.equal(catr.build(None, TEXTS, chosen).backbone[0].weight, theirs.conv1.weight)
    with pytest.raises(BadInput, match=r"backbone\.pth holds no weights of torchvision's resnet34"):
        catr.build(None, TEXTS, replace(chosen, backbone="resnet34"))
