"""What a person brings on the page Read; the services stand alone, before a serving that reads one word."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import store_parts
from browser import Browser
from service_house import World

pytestmark = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="needs Debian's packages chromium and chromium-driver"
)


class Reader(BaseHTTPRequestHandler):
    """Keeps a prediction of every image, as serving does; `groups` are those that were asked for."""

    world: World
    groups: list[str | None]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        [group] = parse_qs(urlsplit(self.path).query).get("group", [None])
        self.groups.append(group)
        read = self.world.prediction("word", image=self.world.image("a" * len(self.groups), group))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"prediction_id": read.id}).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Reader) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Reader.world = world = World(tmp_path / "home", serving_url=f"http://127.0.0.1:{server.server_port}")
        Reader.groups = []
        yield world
        server.shutdown()
        world.store.close()


@pytest.fixture
def pages(tmp_path: Path) -> list[str]:
    """Two files as a scanner names them."""
    paths = [tmp_path / f"Kranz & Söhne.{n}.png" for n in (1, 2)]
    for path in paths:
        path.write_bytes(b"pixels")
    return [str(path) for path in paths]


def read(browser: Browser, files: list[str]) -> None:
    """Bring files, and wait until the last of them is shown."""
    before = browser.run("return location.hash")
    browser.type("#file", "\n".join(files))
    browser.until(lambda: browser.run("return location.hash") != before, 60, "what was read")
    browser.find(".crop[src]")


def test_every_file_is_a_document_of_its_own_unless_one_is_named(address: str, pages: list[str]) -> None:
    with Browser() as browser:
        browser.open(address)
        read(browser, pages)
        assert Reader.groups == [None, None], "receipts that come together have nothing to do with each other"
        assert "document" not in browser.text("main p.faint")
        browser.type("#document", " letters ")
        read(browser, pages)
        assert Reader.groups[2:] == ["letters", "letters"]
        assert "document letters" in browser.text("main")
        read(browser, pages[:1])
        assert Reader.groups[4:] == ["letters"], "what was named stays in the field"
        assert browser.errors() == []


def test_a_line_stays_done_however_often_others_were_corrected_since(world: World, address: str) -> None:
    made = world.prediction("one", "two")
    image = world.store.images.get(made.image)
    said = [store_parts.about(made, image, text=str(n)) for n in range(501)]
    first = replace(said[0], region="p0-b1", text="zwei")
    world.store.corrections.add_many([first, *said[1:]])
    with Browser() as browser:
        browser.open(f"{address}/#/read/{made.id}")
        browser.find(".lines li:nth-child(2) .done")
        assert browser.text(".lines li:nth-child(2)").endswith("zwei")
        assert browser.errors() == []
