"""A person at the console makes a version of a checkpoint; the services stand alone, nothing trains."""

from browser import Browser
from service_house import MODEL, World, ended_with_checkpoints

CHECKPOINTS = "[data-run$=checkpoints]"


def test_a_version_of_a_checkpoint_is_asked_for(world: World, address: str) -> None:
    run = ended_with_checkpoints(world, {}, MODEL)
    with Browser() as browser:
        browser.open(f"{address}/#/training")
        browser.click(CHECKPOINTS)
        browser.until(lambda: "epochs 5 (cider_d 0.625); 10 (" in browser.text("#ask"), 60, "the question")
        browser.run("document.getElementById('ask-input').value = '5'")
        browser.click("#ask-yes")
        browser.until(lambda: len(world.store.runs.list(MODEL)) == 2, 60, "the run")
        assert browser.errors() == []
    made, _ = world.store.runs.list(MODEL)
    assert (made.trigger, made.params) == ("checkpoint", {"checkpoint": f"{run.id}/5"})
