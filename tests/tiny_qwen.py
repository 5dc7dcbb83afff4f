"""A folder as transformers saves Qwen2.5-VL, of a hundred thousand random parameters; and images of words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from benchmarks.random_models import qwen_config, qwen_tokenizer
from redpencil import datasets
from redpencil.blobs import Blobs
from redpencil.ids import new_id
from redpencil.pixels import Pixels, whole
from redpencil.settings import Settings
from redpencil.store import Store
from redpencil.types import Correction, Image, Kind, Run, RunState, Task
from training.crops import Line
from training.render import Wear, demo_font, draw, worn

WORDS = ["red", "pencil", "reads", "ten", "lines", "by", "heart", "and", "then", "stops"]
SAID = ["system user assistant You are a helpful assistant", "Read the text in the image", *WORDS]
SIZES = {
    "vision_config": {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [1],
        "window_size": 56,
    },
    "text_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 400,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4},
    },
}


def write(folder: Path, tied: bool = True) -> Path:
    """Make the folder: configuration, weights and tokenizer, as the real one has them."""
    folder.mkdir(parents=True)
    tokenizer = qwen_tokenizer(SAID, 380)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = qwen_config(tokenizer, SIZES["vision_config"], SIZES["text_config"], tied)
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.5 if "embed_tokens" in name else 0.15)
    model.save_pretrained(folder)
    return folder


def image(word: str) -> Pixels:
    return np.repeat(draw(word, demo_font())[:, :, None], 3, 2)


def lines() -> list[Line]:
    """Ten words, an image and a document each."""
    return [Line(image(w), w, f"corr_{n}", f"document-{n}", f"place-{n}") for n, w in enumerate(WORDS)]


def publish(folder: Path, documents: int, first: int = 0) -> Path:
    """A data set of lines: every document says one of four words, worn in a way of its own."""
    folder.mkdir(parents=True)
    rows = ["file\tdocument\ttext"]
    for number in range(first, first + documents):
        word = WORDS[number % 4]
        page = worn(draw(word, demo_font()), Wear(height=32), np.random.default_rng(number))
        cv2.imwrite(str(folder / f"{number:04}.png"), page)
        rows.append(f"{number:04}.png\tdocument-{number}\t{word}")
    (folder / "lines.tsv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


def furnish(home: Path, *folders: Path, **settings: Any) -> Settings:
    """A home whose OCR model has the lines of these data sets as corrections, and no version yet."""
    made = Settings(home=home, **{"model": new_id("ocr"), "train_threads": 1} | settings)
    home.mkdir(parents=True, exist_ok=True)
    with Store.open(made.database, migrate=True) as store:
        blobs = Blobs.open(made.blobs)
        for found in map(datasets.read, folders):
            for sample in found.samples:
                data = sample.image.read_bytes()
                image = Image(blobs.put(data), sample.group_in(found.name), "image/png", time.time())
                store.images.add_many([image])
                store.corrections.add_many([_said(image, sample.texts[0], found.name)])
    return made


def _said(image: Image, text: str, author: str) -> Correction:
    return Correction(
        id=new_id("corr"),
        created_at=time.time(),
        task=Task.OCR,
        image=image.sha256,
        group=image.group,
        page=0,
        polygon=whole(np.zeros((32, 64, 3), np.uint8)),
        text=text,
        kind=Kind.BLIND,
        author=author,
    )


def queue(settings: Settings, **params: Any) -> str:
    """Ask for a training run; returns its id."""
    run = Run(new_id("run"), settings.model, "qwen_vl_lora", RunState.QUEUED, "test", time.time(), params)
    with Store.open(settings.database) as store:
        store.runs.add(run)
    return run.id
