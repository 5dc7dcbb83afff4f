"""A person at the console: upload, correct by keyboard, review, and look."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from browser import ENTER, Browser

from benchmarks.stack import Stack
from redpencil.store import Store
from redpencil.types import Kind

RECEIPT = Path(__file__).parents[2] / "examples" / "receipt.jpg"
HOSTILE = "<img src=x onerror=document.title='taken'>"

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="needs Debian's packages chromium and chromium-driver"
)


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser
        assert browser.errors() == []


@pytest.fixture
def store(stack: Stack) -> Iterator[Store]:
    with Store.open(stack.settings.database) as store:
        yield store


def retype(browser: Browser, text: str) -> None:
    browser.run("const t = document.getElementById('type'); t.value = arguments[0]; t.focus()", text)


def test_an_image_is_read_and_corrected_by_keyboard(stack: Stack, store: Store, browser: Browser) -> None:
    browser.open(stack.settings.services)
    browser.type("#author", "Ada")
    browser.type("#file", str(RECEIPT))
    browser.find(".crop[src]", timeout_s=30)
    assert "Ada" in browser.run("return localStorage.getItem('redpencil-author')")
    prediction = browser.run("return location.hash").split("/")[-1]
    read = store.predictions.get(prediction)
    first = browser.run("return document.getElementById('type').value")
    assert first == read.blocks[0].text
    assert browser.run("return document.activeElement.id") == "type"

    retype(browser, HOSTILE)
    browser.press(ENTER)
    browser.find("polygon.done")
    browser.find(".lines li:nth-child(2) [aria-current]")
    browser.press(ENTER)
    browser.find(".lines li:nth-child(3) [aria-current]")

    kept = {c.region: c for c, _ in store.corrections.list(prediction=prediction)}
    assert (kept["p0-b0"].text, kept["p0-b0"].kind, kept["p0-b0"].author) == (HOSTILE, Kind.CORRECT, "Ada")
    assert kept["p0-b1"].kind is Kind.ACCEPT
    assert HOSTILE in browser.text(".lines li:first-child")
    assert browser.run("return document.title") == "Redpencil"

    browser.open(f"{stack.settings.services}/#/review")
    browser.open(f"{stack.settings.services}/#/read/{prediction}")
    browser.find(".lines li:nth-child(3) [aria-current]")  # the first that waits
    assert HOSTILE in browser.text(".lines li:first-child")
    browser.run("document.querySelector('.lines li:first-child button').click()")
    browser.find(".lines li:first-child [aria-current]")
    assert browser.run("return document.getElementById('type').value") == HOSTILE
    before = len(store.corrections.list(prediction=prediction))
    browser.press(ENTER)
    browser.find(".lines li:nth-child(3) [aria-current]")
    assert len(store.corrections.list(prediction=prediction)) == before, "Enter says nothing new"

    said = {"prediction_id": prediction, "region": "p0-b2", "text": "by Bob", "author": "Bob"}
    httpx.post(f"{stack.settings.services}/v1/corrections", json=said).raise_for_status()
    browser.press(ENTER)  # on a page that does not know of it
    is_told(browser, "Bob has corrected this line meanwhile: 'by Bob'")
    assert all("409" in error for error in browser.errors())


def is_told(browser: Browser, words: str) -> None:
    """Wait for a notice that says so."""
    said = "return document.getElementById('notice').textContent"
    browser.until(lambda: words in browser.run(said), timeout_s=30, what=f"the notice {words!r}")


def test_of_several_files_the_one_that_cannot_be_read_is_named(
    stack: Stack, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "words.png").write_text("no image")
    browser.open(stack.settings.services)
    browser.type("#file", f"{tmp_path / 'words.png'}\n{RECEIPT}")
    browser.find(".crop[src]", timeout_s=30)
    is_told(browser, "1 of 2 were read. words.png: these bytes are not an image")
    assert all("422" in error for error in browser.errors())


def test_the_review_queue_goes_on_with_enter(stack: Stack, store: Store, browser: Browser) -> None:
    browser.open(f"{stack.settings.services}/#/review")
    browser.find(".crop[src]")
    before = len(store.corrections.list(limit=500))
    shown = browser.run("return document.querySelector('.crop').src")
    browser.press(ENTER)
    browser.until(
        lambda: browser.run("return document.querySelector('.crop').src") not in ("", shown),
        timeout_s=10,
        what="the next line",
    )
    browser.press(ENTER, shift=True)
    assert len(store.corrections.list(limit=500)) == before + 1


def test_every_page_shows_without_error_and_fits_a_phone(stack: Stack, browser: Browser) -> None:
    phone = {"width": 360, "height": 760, "deviceScaleFactor": 1, "mobile": True}
    browser.post("/goog/cdp/execute", cmd="Emulation.setDeviceMetricsOverride", params=phone)
    for page, there in (
        ("training", "#recipe"),
        ("versions", "article"),
        ("experiment", "h1"),
        ("lineage/ocr/1", ".tree li"),
    ):
        browser.open(f"{stack.settings.services}/#/{page}")
        browser.find(there)
        assert browser.run("return document.documentElement.scrollWidth") <= 360
    assert "is served" in browser.text("#standing")
