"""The learning benchmark reads any folder in the form of the shared sets, and says what is wrong with one."""

from pathlib import Path

import pytest

from benchmarks.learning import sets
from redpencil.errors import BadInput
from redpencil.types import Split

HEAD = "file\tdocument\ttext\n"


def written(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "lines.tsv").write_text(HEAD + text, "utf-8")
    return folder


def test_a_text_may_hold_every_kind_of_space_or_nothing(tmp_path: Path) -> None:
    rows = sets.rows_of(written(tmp_path / "a", "1.png\td\ta\u2028b\x85c\td\n2.png\td\n3.png\td\t\n"))
    assert rows == [("1.png", "d", "a\u2028b\x85c\td"), ("2.png", "d", ""), ("3.png", "d", "")]
    assert sets.names(tmp_path) == ["a"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"lines.tsv, line 3: file, document and text"):
        sets.rows_of(written(tmp_path / "a", "1.png\td\tx\n\td\tx\n"))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_however_few_documents_some_are_learned_and_others_held_out(count: int) -> None:
    documents = {f"doc {n}": [[f"{n}-{row}.png", f"doc {n}", "x"] for row in range(5)] for n in range(count)}
    learned, held = (sets._on(documents, side) for side in (Split.TRAIN, Split.HOLDOUT))
    files = [[row[0] for rows in side.values() for row in rows] for side in (learned, held)]
    assert all(files)
    assert not set(files[0]) & set(files[1])
    assert sum(map(len, files)) == 5 * count
