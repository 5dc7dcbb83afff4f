"""A console whose services are slow asks again only when they have answered; nothing trains."""

import shutil

import pytest
from browser import Browser
from service_house import World

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="needs Debian's packages chromium and chromium-driver"
)
SLOW = """
for (const name of ["setTimeout", "setInterval"]) {
  const slow = window[name];
  window[name] = (work, ms) => slow(work, ms / 40);
}
const quick = fetch, asked = {};
let times = 0, most = 0;
window.fetch = async (path, ...how) => {
  asked[path] = (asked[path] ?? 0) + 1;
  [times, most] = [times + 1, Math.max(most, asked[path])];
  await new Promise((done) => setTimeout(done, 40 * 400));
  return quick(path, ...how).finally(() => asked[path]--);
};
"""


@pytest.mark.parametrize("page", ["training", "versions"])
def test_nothing_is_asked_for_again_before_it_was_answered(world: World, address: str, page: str) -> None:
    world.serve("1")
    with Browser() as browser:
        source = {"source": SLOW}
        browser.post("/goog/cdp/execute", cmd="Page.addScriptToEvaluateOnNewDocument", params=source)
        browser.open(f"{address}/#/{page}")
        browser.find("h1 ~ div > *")
        browser.run("times = most = 0")
        browser.until(lambda: browser.run("return times") > 15, 60, "some polls")
        assert browser.run("return most") == 1
        assert browser.errors() == []
