"""Texts written token after token, with a decoder that can be seen through."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from redpencil.bundle import Generation
from redpencil.company import Company
from redpencil.writing import Steps, Tensors, Writing, Written, generate, step

WORDS, END = 9, 2
GREEDY, BEAMS = Generation((1,), END, 12, 1), Generation((1,), END, 12, 3)
LONG_START = Generation((1, 5, 4), END, 12, 2)


class Fake:
    """Its next token depends on the image and on all tokens so far, and it remembers these alone."""

    def __init__(self) -> None:
        self.past = {"said": (1, 1)}
        self.runs = list[tuple[int, int, int]]()

    def run(self, tokens: object, lengths: object, memory: Tensors, past: Tensors) -> tuple[object, Tensors]:
        tokens, lengths = np.asarray(tokens), np.asarray(lengths)
        images, said = memory["memory.image"], past["said"]
        assert len(tokens) == len(lengths) == len(images) == len(said)
        assert said.shape[2] == lengths.max()
        self.runs.append((*tokens.shape, len(set(lengths))))
        logits = [
            self.logits(int(image[0]), [*before[0, :length, 0].astype(int), *new])
            for image, before, length, new in zip(images, said, lengths, tokens, strict=True)
        ]
        return np.array(logits, np.float32), {"said": tokens[:, None, :, None].astype(np.float32)}

    def logits(self, image: int, text: Sequence[int]) -> list[float]:
        rng = np.random.default_rng([image, *text])
        return list(rng.normal(size=WORDS) * 2)


def images(count: int) -> Tensors:
    return {"memory.image": np.arange(count, dtype=np.int64)[:, None]}


def one(image: int, how: Generation, decoder: Steps) -> Writing:
    return Writing(decoder, {"memory.image": np.array([[image]])}, how)


def alone(image: int, how: Generation) -> Written:
    decoder = Fake()
    [written] = generate(decoder, one(image, how, decoder).memory, how)
    return written


def test_greedy_takes_the_likeliest_token_until_the_end() -> None:
    tokens, sure = alone(3, GREEDY)
    text = [1]
    for token, probability in zip([*tokens, END], [*sure, None], strict=True):
        logits = np.array(Fake().logits(3, text))
        if len(text) > GREEDY.longest:
            break
        assert token == logits.argmax()
        if probability is not None:
            assert probability == pytest.approx(np.exp(logits)[token] / np.exp(logits).sum(), rel=1e-5)
        text.append(token)


@pytest.mark.parametrize("how", [GREEDY, BEAMS, LONG_START])
def test_a_closed_set_is_written_as_each_alone_and_who_has_finished_drops_out(how: Generation) -> None:
    decoder = Fake()
    written = generate(decoder, images(20), how)
    assert written == [alone(n, how) for n in range(20)]
    assert len({len(tokens) for tokens, _ in written}) > 3
    rows = [rows for rows, _, _ in decoder.runs]
    assert rows[-1] < rows[1]


@pytest.mark.parametrize("how", [GREEDY, BEAMS, LONG_START])
def test_who_joins_in_the_middle_is_written_as_alone_and_changes_nobody(how: Generation) -> None:
    decoder = Fake()
    all_ = [one(n, how, decoder) for n in range(20)]
    for now in range(60):
        if going := [w for w in all_[: 1 + now // 2] if not w.over]:
            step(decoder, going)
    assert [w.best() for w in all_] == [alone(n, how) for n in range(20)]
    assert max(lengths for _, _, lengths in decoder.runs) > 1


def test_start_tokens_run_first_and_join_the_others_at_the_next_step() -> None:
    decoder = Fake()
    longer = [n for n in range(20) if len(alone(n, LONG_START)[0]) > 4]
    older, newer = (one(n, LONG_START, decoder) for n in longer[:2])
    step(decoder, [older])
    step(decoder, [older, newer])
    step(decoder, [older, newer])
    assert [(width, lengths) for _, width, lengths in decoder.runs] == [(3, 1), (1, 1), (3, 1), (1, 2)]


@pytest.mark.parametrize("how", [GREEDY, BEAMS, LONG_START])
def test_sixteen_threads_get_each_what_it_would_get_alone(how: Generation) -> None:
    decoder = Fake()
    company = Company[Writing](partial(step, decoder), 4, 1)

    def write(image: int) -> Written:
        writing = one(image, how, decoder)
        company.finish(writing)
        return writing.best()

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(write, n % 20) for n in range(100)]
        assert [f.result(60) for f in futures] == [alone(n % 20, how) for n in range(100)]
    assert max(lengths for _, _, lengths in decoder.runs) > 1
