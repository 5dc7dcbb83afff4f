"""A person at a console that wants a key; the services stand alone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ENTER, Browser
from service_house import World

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="needs Debian's packages chromium and chromium-driver"
)
HURRIED = "const slow = setTimeout; window.setTimeout = (work, ms) => slow(work, ms / 40)"
POLLS = "return performance.getEntriesByName(location.origin + '/v1/status').length"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, api_keys="secret")
    yield world
    world.store.close()


def test_who_gives_no_key_is_asked_again_only_when_he_does_something(address: str) -> None:
    with Browser() as browser:
        source = {"source": HURRIED}
        browser.post("/goog/cdp/execute", cmd="Page.addScriptToEvaluateOnNewDocument", params=source)
        browser.open(address)
        browser.find("#ask[open]")
        browser.click("#ask-no")
        asked = browser.run(POLLS)
        browser.until(lambda: browser.run(POLLS) > asked + 5, 60, "some polls")
        assert not browser.run("return document.getElementById('ask').open")
        browser.click("h1, main")
        browser.find("#ask[open]")
        browser.run("document.getElementById('ask-input').value = 'secret'")
        browser.press(ENTER)
        browser.until(
            lambda: "no version of ocr is served yet" in browser.text("#standing"), 60, "its standing"
        )
        assert all("401" in error for error in browser.errors())
