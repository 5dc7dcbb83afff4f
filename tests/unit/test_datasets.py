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


@pytest.mark.parametrize("split", ["train", "val", "test", "Test", "dev", "test2017", "Train", "restval"])
def test_a_split_says_on_which_side_an_image_stands(tmp_path: Path, write: Write, split: str) -> None:
    rows = [{"image": f"{n}.png", "captions": ["x"], "split": split} for n in range(30)]
    write("captions.jsonl", "\n".join(map(json.dumps, rows)))
    for n in range(30):
        write(f"{n}.png")
    write("val.png")
    rows.append({"image": "val.png", "captions": ["x"], "split": "val"})
    write("captions.jsonl", "\n".join(map(json.dumps, rows)))
    wanted = Split.TRAIN if split.lower() in ("train", "restval") else Split.HOLDOUT
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


def test_flickr8k_is_divided_by_its_own_lists(tmp_path: Path, write: Write) -> None:
    names = [f"{n}.jpg" for n in range(4)]
    for name in names:
        write(f"Flicker8k_Dataset/{name}")
    for part, listed in (("train", "0.jpg\n"), ("dev", "1.jpg\n\n"), ("test", "2.jpg\nother.jpg\n")):
        write(f"Flickr_8k.{part}Images.txt", listed)
    write("Flickr8k.token.txt", "".join(f"{name}#0\tA dog runs\n" for name in names))
    write("Flickr8k.lemma.token.txt", "".join(f"{name}#0\tA dog run\n" for name in names))
    wanted = {"0.jpg": "train", "1.jpg": "dev", "2.jpg": "test", "3.jpg": "train"}
    assert {s.image.name: s.split for s in read(tmp_path).samples} == wanted
    assert {s.texts for s in read(tmp_path).samples} == {("A dog runs",)}, "lemmas are no captions"
    write("captions.txt", "image,caption\n" + "".join(f"{name},A dog runs\n" for name in names))
    assert {s.image.name: s.split for s in read(tmp_path).samples} == wanted
    write("Flickr_8k.testImages.txt", "2.jpg\n1.jpg\n")
    with pytest.raises(BadInput, match=r"testImages\.txt, line 2: 1\.jpg is one of the dev images too"):
        read(tmp_path)


def test_known_faults_of_the_published_flickr_files_are_read_rightly(tmp_path: Path, write: Write) -> None:
    write("thirty/b.jpg")
    rows = ["b.jpg| 3| Dogs run .", "b.jpg| 4   A dog runs across the grass .", 'b.jpg| 0| The 9" dog .']
    write("thirty/results.csv", "\n".join(rows))
    texts = ("Dogs run .", "A dog runs across the grass .", 'The 9" dog .')
    assert read(tmp_path / "thirty").samples[0].texts == texts
    write("eight/c.jpg")
    gone = "2258277193_586949ec62.jpg.1"
    write("eight/Flickr8k.token.txt", f"{gone}#0\tpeople\nc.jpg#0\tA tree\n")
    assert [s.image.name for s in read(tmp_path / "eight").samples] == ["c.jpg"]


def test_a_flickr_table_needs_no_header_and_ends_its_captions_where_its_lines_end(
    tmp_path: Path, write: Write
) -> None:
    for name in "ab":
        write(f"{name}.jpg")
    write("captions.txt", 'a.jpg,"A ""big"", red dog"\nb.jpg,A man with a 9" pipe\n')
    said = [(s.image.name, s.texts) for s in read(tmp_path).samples]
    assert said == [("a.jpg", ('A "big", red dog',)), ("b.jpg", ('A man with a 9" pipe',))]


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
    ("limit", "kept"), [(10, (8, 2)), (4, (3, 1)), (2, (1, 1)), (1, (1, 0)), (60, (40, 10))]
)
def test_a_limit_leaves_every_part_its_share(
    tmp_path: Path, write: Write, limit: int, kept: tuple[int, int]
) -> None:
    write("annotations/captions_train2017.json", coco([(n, "a dog") for n in range(40)]))
    write("annotations/captions_val2017.json", coco([(n, "a cat") for n in range(40, 50)]))
    for n in range(50):
        write(f"{'train' if n < 40 else 'val'}2017/{n}.jpg")
    found = [s.image.name for s in read(tmp_path, limit).samples]
    assert found == [f"{n}.jpg" for n in (*range(kept[0]), *range(40, 40 + kept[1]))]


def test_test_images_of_coco_are_held_out(tmp_path: Path, write: Write) -> None:
    write("annotations/captions_test.json", coco([(1, "a dog")]))
    write("test/1.jpg")
    assert read(tmp_path).samples[0].split == "test"


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
        ({"results.csv": "a.jpg| 0 A dog"}, "line 1: image, number and caption"),
        ({"results.csv": "a.jpg| 0| A dog| runs"}, "line 1: image, number and caption .* not 4 cells"),
        ({"captions.txt": 'image,caption\na.jpg,"A dog\na.jpg,runs"'}, "line 2: unexpected end .* doubled"),
        ({"captions.txt": f"image,caption\na.jpg,{'x' * 140_000}"}, "line 2: .* it has 140,006 characters"),
        ({"captions.txt": "a.jpg"}, "line 1: an image and a caption"),
        ({"captions.txt": "image,caption\n,A dog"}, "line 2: the name of the image is empty"),
        ({"captions.txt": "image,caption\na.jpg,A dog"}, "a.jpg, which is named in .*captions.txt, line 2:"),
        ({"captions.jsonl": '{"image": "", "caption": "x"}'}, "line 1: the name of the image is empty"),
        (
            {"captions.jsonl": '{"file_name": 7, "caption": "x"}'},
            "line 1: the name of an image's file .*'7'",
        ),
        ({"captions.jsonl": '{"image": "%s.png", "caption": "x"}' % ("x" * 300)}, "captions.jsonl, line 1:"),
        ({"captions.jsonl": "[" * 100_000}, "line 1: objects and lists are too deep"),
        (
            {"captions.jsonl": '{"image": "a.png", "caption": "\\ud83d"}'},
            "line 1: half of a surrogate .*U.D83D",
        ),
        ({"captions.jsonl/x": ""}, "captions.jsonl cannot be read"),
        ({"lines.tsv": "a.png\tdoc\tfirst\nb.png\tdoc\tx"}, "line 1: headings are wanted, file, document"),
        ({"lines.tsv": "file\tdocument\ttext\n\tdoc\tx"}, "line 2: the name of the image is empty"),
        (
            {"lines.tsv": "file\tdocument\ttext\na.png\tdoc\tx"},
            "is named in .*lines.tsv, line 2:",
        ),
        ({"train/train.json": "5"}, "train.json: a list of objects with image and text is wanted, not '5'"),
        ({"train/train.json": "null"}, "train.json: a list of objects"),
        ({"train/train.json": "true"}, "train.json: a list of objects"),
        ({"train/train.json": '{"images": null}'}, "train.json: a list of objects"),
        ({"train/train.json": '{"a.png": "x"}'}, "a.png, which is named in .*train.json, entry 0:"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, write: Write, files: dict[str, str], words: str
) -> None:
    for name, content in files.items():
        write(name, content)
    with pytest.raises(BadInput, match=words):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is not COCO's caption format"),
        (
            '{"images": [{"id": 1, "file_name": 7}], "annotations": []}',
            "image 0 .* of an image's file is wanted",
        ),
        ('{"images": [{"id": [1]}], "annotations": []}', "image 0 of its list: an object with id is wanted"),
        ('{"images": [], "annotations": [7]}', "annotation 0: an object with image_id is wanted"),
        (coco([(1, "a dog"), (1, " ")]), "annotation 1: the caption is empty"),
        (
            coco([(1, "a dog")]).replace('"image_id": 1', '"image_id": 9'),
            "annotations/captions_val.json: annotation 0 names image 9, which is not among its images",
        ),
        (coco([(1, "a dog")]), "1.jpg, which is named in .*captions_val.json, annotation 0:"),
    ],
)
def test_what_is_wrong_in_coco_is_said_with_its_number(
    tmp_path: Path, write: Write, content: str, words: str
) -> None:
    write("annotations/captions_val.json", content)
    with pytest.raises(BadInput, match=words):
        read(tmp_path)


@pytest.mark.parametrize("name", ["captions.jsonl", "lines.tsv", "train/train.json", "captions.txt"])
def test_a_file_in_another_encoding_is_named(tmp_path: Path, write: Write, name: str) -> None:
    write(name).write_bytes("Straße".encode("latin-1"))
    with pytest.raises(BadInput, match=rf"{name} is not UTF-8"):
        read(tmp_path)
