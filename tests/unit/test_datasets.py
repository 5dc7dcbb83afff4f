"""Folders of images with texts, as they are published."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from redpencil.datasets import read
from redpencil.errors import BadInput
from redpencil.snapshot import side_of
from redpencil.text import label
from redpencil.types import Split, Task

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(name: str, content: str = "image") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")
        return path

    return written


def coco(captions: list[tuple[int, str]]) -> str:
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in sorted({n for n, _ in captions})]
    return json.dumps({"images": images, "annotations": [{"image_id": n, "caption": c} for n, c in captions]})


def test_coco_gathers_the_captions_of_an_image_and_keeps_the_split(tmp_path: Path, write: Write) -> None:
    write("annotations/captions_train2017.json", coco([(1, "a dog"), (1, "a brown dog"), (2, "a cat")]))
    write("annotations/captions_val2017.json", coco([(3, "a bird")]))
    for place in ("train2017/1.jpg", "train2017/2.jpg", "val2017/3.jpg"):
        write(place)
    found = read(tmp_path)
    assert found.task is Task.CAPTION
    assert [(s.image.name, s.texts, s.split) for s in found.samples] == [
        ("1.jpg", ("a dog", "a brown dog"), "train"),
        ("2.jpg", ("a cat",), "train"),
        ("3.jpg", ("a bird",), "val"),
    ]


@pytest.mark.parametrize("split", ["train", "val", "test", "Test", "dev", "test2017", "Train"])
def test_a_split_says_on_which_side_an_image_stands(tmp_path: Path, write: Write, split: str) -> None:
    rows = [{"image": f"{n}.png", "captions": ["x"], "split": split} for n in range(30)]
    write("captions.jsonl", "\n".join(map(json.dumps, rows)))
    for n in range(30):
        write(f"{n}.png")
    write("val.png")
    rows.append({"image": "val.png", "captions": ["x"], "split": "val"})
    write("captions.jsonl", "\n".join(map(json.dumps, rows)))
    wanted = Split.TRAIN if split.lower() == "train" else Split.HOLDOUT
    assert {side_of(s.group_in("set")) for s in read(tmp_path).samples[:30]} == {wanted}


@pytest.mark.parametrize("group", ["", "Wo\u0308rter 1"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_it_stands_there_as_the_services_write_its_name(
    tmp_path: Path, write: Write, split: str, group: str
) -> None:
    folder = tmp_path / "Wo\u0308rter"  # as a Mac writes it: the services keep it in NFC
    rows = [{"image": f"{n}.png", "captions": ["x"], "split": split, "group": group and f"{group}{n}"}
            for n in range(30)]  # fmt: skip
    rows.append({"image": "val.png", "captions": ["x"], "split": "val"})
    write(f"{folder.name}/captions.jsonl", "\n".join(map(json.dumps, rows)))
    for row in rows:
        write(f"{folder.name}/{row['image']}")
    found = read(folder)
    groups = [s.group_in(found.name) for s in found.samples[:30]]
    assert {side_of(g) for g in groups} == {Split.TRAIN if split == "train" else Split.HOLDOUT}
    assert [label(g, "group") for g in groups] == groups
    assert all(g.startswith("W\u00f6rter") for g in groups)


def test_a_set_without_a_part_to_judge_by_is_divided_by_hash(tmp_path: Path, write: Write) -> None:
    write("annotations/captions_train2017.json", coco([(n, "a dog") for n in range(30)]))
    for n in range(30):
        write(f"train2017/{n}.jpg")
    assert {side_of(s.group_in("set")) for s in read(tmp_path).samples} == {Split.TRAIN, Split.HOLDOUT}


def test_nulls_name_no_document_and_no_part(tmp_path: Path, write: Write) -> None:
    rows = [{"image": f"{n}.png", "captions": ["x"], "split": None, "group": None} for n in range(30)]
    write("captions.jsonl", "\n".join(json.dumps(r) for r in rows))
    for n in range(30):
        write(f"{n}.png", "pixels")
    groups = {s.group_in("set") for s in read(tmp_path).samples}
    assert len(groups) == 30
    assert {side_of(g) for g in groups} == {Split.TRAIN, Split.HOLDOUT}


def test_separators_within_a_text_end_no_line_and_spaces_of_a_line_stay(tmp_path: Path, write: Write) -> None:
    write("a.png", "pixels")
    caption = {"image": "a.png", "caption": "one\u2028two"}
    write("captions.jsonl", json.dumps(caption, ensure_ascii=False))
    assert read(tmp_path).samples[0].texts == ("one two",)
    (tmp_path / "captions.jsonl").unlink()
    write("lines.tsv", "file\tdocument\ttext\na.png\tdoc\tA\u30001\u00a0234 \n")
    assert read(tmp_path).samples[0].texts == ("A\u30001\u00a0234",)


def test_flickr_comes_as_a_table_or_as_tokens(tmp_path: Path, write: Write) -> None:
    write("eight/Images/a.jpg")
    write("eight/captions.txt", "image,caption\na.jpg,A man, and a dog\na.jpg,Two friends\n")
    assert read(tmp_path / "eight").samples[0].texts == ("A man, and a dog", "Two friends")
    write("thirty/flickr30k_images/b.jpg")
    write("thirty/results.csv", "image_name| comment_number| comment\nb.jpg| 0| A boat .\n")
    assert read(tmp_path / "thirty").samples[0].texts == ("A boat .",)
    write("token/images/c.jpg")
    write("token/Flickr8k.token.txt", "c.jpg#0\tA tree\nc.jpg#1\tA tall tree\n")
    assert read(tmp_path / "token").samples[0].texts == ("A tree", "A tall tree")


@pytest.mark.parametrize("content", [[{"image": "a.png", "text": "tiếng Việt"}], {"a.png": "tiếng Việt"}])
def test_image_to_text_folders_have_a_json_per_split(tmp_path: Path, write: Write, content: object) -> None:
    write("train/train.json", json.dumps(content))
    write("images/a.png")
    write("val/val.json", json.dumps([{"image": "b.png", "text": "một"}]))
    write("images/b.png")
    said = [(s.texts, s.split) for s in read(tmp_path).samples]
    assert said == [(("tiếng Việt",), "train"), (("một",), "val")]


def test_lines_of_text_keep_their_documents(tmp_path: Path, write: Write) -> None:
    write("lines.tsv", "file\tdocument\ttext\nlines/1.png\twill-7\tJe soussigné\n")
    write("lines/1.png")
    found = read(tmp_path)
    assert (found.task, found.samples[0].group_in("x")) == (Task.OCR, "will-7")


def test_a_limit_takes_the_first_images(tmp_path: Path, write: Write) -> None:
    write("captions.jsonl", "\n".join(json.dumps({"image": f"{n}.png", "caption": "x"}) for n in range(5)))
    for n in range(5):
        write(f"{n}.png")
    assert [s.image.name for s in read(tmp_path, limit=2).samples] == ["0.png", "1.png"]
    assert len(read(tmp_path, limit=0).samples) == 5


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no data set that is known here"),
        ({"captions.jsonl": '{"image": "a.png", "captions": ["x"]}\n{oh'}, "line 2: this is not JSON"),
        ({"captions.jsonl": '{"image": "a.png", "captions": []}'}, "line 1: the image a.png has no caption"),
        ({"captions.jsonl": '{"image": "a.png"}'}, "line 1: an image and a caption"),
        ({"captions.jsonl": '{"image": "a.png", "caption": " "}'}, "line 1: the caption is empty"),
        ({"captions.jsonl": '{"image": "a.png", "caption": "x"}'}, "1 of 1 images of .* are missing"),
        (
            {"captions.jsonl": '{"image": "a.png", "caption": "x", "split": "fold 3"}'},
            "line 1: the split 'fold 3'",
        ),
        ({"captions.jsonl": ""}, "names no image"),
        ({"lines.tsv": "file\tdocument\ttext\nonly two\tcells"}, "line 2: file, document and text"),
        ({"annotations/captions_val.json": '{"images": []}'}, "is not COCO's caption format"),
        ({"x.token": "no tab"}, "line 1: no tab"),
        ({"train/train.json": '["text"]'}, "entry 0: an object is wanted"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, write: Write, files: dict[str, str], words: str
) -> None:
    for name, content in files.items():
        write(name, content)
    with pytest.raises(BadInput, match=words):
        read(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "lines.tsv", "train/train.json", "captions.txt"])
def test_a_file_in_another_encoding_is_named(tmp_path: Path, write: Write, name: str) -> None:
    write(name).write_bytes("Straße".encode("latin-1"))
    with pytest.raises(BadInput, match=rf"{name} is not UTF-8"):
        read(tmp_path)
