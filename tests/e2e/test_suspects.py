"""A person at the console decides about corrections in doubt; the services stand alone, nothing trains."""

import time

import pytest
import store_parts
from browser import ENTER, Browser
from service_house import World

from redpencil.types import Correction, Doubt

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def doubted(world: World) -> list[Correction]:
    """Three corrections that a run left out, the most suspect first."""
    made = []
    for word in ("one", "two", "six"):
        answer = world.prediction(word)
        image = world.store.images.get(answer.image)
        made.append(store_parts.about(answer, image, text=HOSTILE, author="bob"))
    world.store.corrections.add_many(made)
    run = store_parts.run()
    world.store.runs.add(run)
    world.store.doubts.add_many(
        [Doubt(run.id, c.id, time.time(), 0.9 - n / 10, True, f"why {n}") for n, c in enumerate(made)]
    )
    return made


def test_each_is_confirmed_corrected_or_taken_back(
    world: World, doubted: list[Correction], address: str
) -> None:
    right, wrong, back = doubted
    with Browser() as browser:
        browser.open(f"{address}/#/review")
        browser.click("a[href='#/review/suspects']")
        browser.find(".crop[src]")
        assert browser.text(".doubt") == "why 0"
        browser.press(ENTER)
        browser.until(lambda: browser.text(".doubt") == "why 1", 60, "the second")
        browser.run("document.querySelector('#type').value = 'two'")
        browser.press(ENTER)
        browser.until(lambda: browser.text(".doubt") == "why 2", 60, "the third")
        browser.run(
            "[...document.querySelectorAll('button')].find((b) => b.textContent === 'Take it back').click()"
        )
        browser.click("#ask-yes")
        browser.until(lambda: "No correction is in doubt" in browser.text("main"), 60, "the end")
        assert browser.run("return document.title") == "Redpencil"
        assert browser.errors() == []
    assert world.store.doubts.confirmation(right.id)["who"] == "console"
    assert world.store.corrections.revocation(back.id)["why"] == "wrong"
    kept = {c.prediction: c for c in world.store.corrections.live(wrong.task)}
    assert (kept[wrong.prediction].text, kept[wrong.prediction].kind.value) == ("two", "correct")
