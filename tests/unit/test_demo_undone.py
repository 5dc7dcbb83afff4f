"""What a demo leaves behind is taken back; what others said and what serves besides is let alone."""

from collections.abc import Callable
from typing import Any

from service_house import MODEL, World, correct

from redpencil import snapshot
from redpencil.snapshot import side_of
from redpencil.types import CorrectionState, ModelVersion, Outcome, Split, Task


def train_group() -> str:
    return next(f"d{n}" for n in range(50) if side_of(f"d{n}") is Split.TRAIN)


def states(world: World) -> dict[str, set[CorrectionState]]:
    found: dict[str, set[CorrectionState]] = {}
    for made, state in world.store.corrections.list(limit=500):
        found.setdefault(made.author, set()).add(state)
    return found


def test_its_corrections_are_taken_back_and_its_version_serves_no_more(
    world: World, redpencil: Callable[..., Any]
) -> None:
    client = world.client()
    world.serve("1")
    for text in "abc":
        made = world.prediction(text, image=world.image(text, train_group()))
        client.post("/v1/corrections", json={"prediction_id": made.id, "text": "x", "author": "demo"})
    correct(client, world.prediction("mine"), "y")
    taken = snapshot.take(world.store, Task.OCR).id
    bundle = world.store.versions.get(MODEL, "1").bundle
    world.store.versions.add(ModelVersion(MODEL, "3", bundle, 1.0, "1", taken))
    world.judge("3", Outcome.PASSED, "", MODEL)
    world.registry.add(MODEL, "3")
    world.registry.aliases[MODEL, "champion"] = "3"
    world.tick()
    assert world.store.serving.get(MODEL).champion == "3"
    said = redpencil("demo", "--undo").output
    assert "3 corrections of the demo are taken back" in said
    assert "version 3, which learned from them, gives way to version 1" in said
    assert states(world)["demo"] == {CorrectionState.REVOKED}
    assert states(world)["ada"] != {CorrectionState.REVOKED}
    again = redpencil("demo", "--undo").output
    assert again == "0 corrections of the demo are taken back: nothing learns from them any more\n"
    assert world.store.serving.get(MODEL).champion == "1"
