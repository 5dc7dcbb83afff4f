"""How close captions are to what people said of the images: BLEU, ROUGE-L, CIDEr-D, and word edits.

An image has one or more references. The numbers are those of the published evaluation code of COCO
captions on the same words: BLEU and ROUGE-L as shares (0..1), CIDEr-D on its scale of 0..10. What a
word is says `caption_words.words`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import editdistance

from redpencil import cider
from redpencil.caption_words import words
from redpencil.cider import Frequency, Words
from redpencil.errors import BadInput

References = Sequence[Sequence[str]]
"""Per image what people said of it."""

ROUGE_BETA = 1.2
SAMPLE = 200


@dataclass(frozen=True, slots=True)
class CaptionScores:
    """What a set of captions is worth; each number is of the whole set, higher is better."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider_d: float


def caption_scores(
    references: References, hypotheses: Sequence[str], frequency: Frequency | None = None
) -> CaptionScores:
    """Score one caption per image; `frequency` as in `cider_d`."""
    bleus = bleu(references, hypotheses)
    return CaptionScores(*bleus, rouge_l(references, hypotheses), cider_d(references, hypotheses, frequency))


def bleu(references: References, hypotheses: Sequence[str]) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of the whole set, not smoothed: without one 4-gram in common, BLEU-4 is 0."""
    from sacrebleu.metrics.bleu import BLEU  # takes a third of a second to import, and serving needs none

    true, said = _cut(references, hypotheses)
    lines = [" ".join(h) for h in said]
    # The first references of all images, then the second ones and so on; None where there is none.
    streams: Any = [[None if r is None else " ".join(r) for r in nth] for nth in zip_longest(*true)]
    measures = (
        BLEU(tokenize="none", smooth_method="none", force=True, max_ngram_order=n) for n in cider.ORDERS
    )
    one, two, three, four = (measure.corpus_score(lines, streams).score / 100 for measure in measures)
    return one, two, three, four


def rouge_l(references: References, hypotheses: Sequence[str]) -> float:
    """The mean over images of F (beta 1.2) of the best precision and the best recall of any reference.

    As in COCO's code these two may come from different references.
    """
    true, said = _cut(references, hypotheses)
    return sum(_overlap(refs, caption) for refs, caption in zip(true, said, strict=True)) / len(said)


def cider_d(references: References, hypotheses: Sequence[str], frequency: Frequency | None = None) -> float:
    """CIDEr-D with n-grams up to 4 and sigma 6, times 10: the mean over images.

    How rare an n-gram is says `frequency`, or the references themselves where none is given; those
    of a single image say nothing, and the score is 0.
    """
    each = cider_each(references, hypotheses, frequency)
    return sum(each) / len(each)


def cider_each(
    references: References, hypotheses: Sequence[str], frequency: Frequency | None = None
) -> list[float]:
    """CIDEr-D of each image's caption."""
    true, said = _cut(references, hypotheses)
    return cider.scores(true, said, frequency or Frequency.of(true))


def frequency(references: References) -> Frequency:
    """How rare n-grams are among these images' references."""
    return Frequency.of([[words(r) for r in refs] for refs in references])


def nearest(references: Sequence[str], hypothesis: str) -> tuple[int, int]:
    """The fewest words to edit to get one of the references, and how many words that one has.

    Of several equally near ones the longest counts.
    """
    _check(references)
    return _nearest([words(r) for r in references], words(hypothesis))


def length(references: Sequence[str]) -> int:
    """The words of an image's references, on average: what edits are divided by, whoever wrote.

    Dividing by the nearest one's would measure two captions of one image by two rules. Translation
    edit rate does the same.
    """
    _check(references)
    return round(sum(len(words(r)) for r in references) / len(references))


def typical(references: References, sample: int = SAMPLE) -> str:
    """The caption that is least wrong when it is said of each of these images.

    Of `sample` captions it is the one with the fewest word edits to the nearest reference, over
    `sample` images; both are drawn by their hash, so the same references give the same answer.
    """
    images = [[words(r) for r in refs] for refs in _drawn(map(tuple, references), sample)]
    captions = [text for (text,) in _drawn(((t,) for refs in references for t in refs), sample)]
    if not captions:
        raise BadInput("there is no caption to choose from")
    return min(captions, key=lambda c: (sum(_nearest(refs, words(c))[0] for refs in images), c))


def _cut(references: References, hypotheses: Sequence[str]) -> tuple[list[list[Words]], list[Words]]:
    if not hypotheses or len(references) != len(hypotheses):
        said, images = len(hypotheses), len(references)
        raise BadInput(f"{said} captions cannot be judged by the references of {images} images")
    for refs in references:
        _check(refs)
    return [[words(r) for r in refs] for refs in references], [words(h) for h in hypotheses]


def _check(references: Sequence[str]) -> None:
    if not references:
        raise BadInput("an image without references cannot be judged")


def _overlap(references: Sequence[Words], caption: Words) -> float:
    common = [_common(r, caption) for r in references]
    precision = max(common) / max(1, len(caption))
    recall = max(n / max(1, len(r)) for n, r in zip(common, references, strict=True))
    if not precision:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def _common(a: Words, b: Words) -> int:
    """The length of the longest sequence of words that is in both, in order but with gaps."""
    row = [0] * (len(b) + 1)
    for word in a:
        above, row = row, [0]
        for i, other in enumerate(b):
            row.append(above[i] + 1 if word == other else max(above[i + 1], row[i]))
    return row[-1]


def _nearest(references: Sequence[Words], hypothesis: Words) -> tuple[int, int]:
    edits, shortness = min((int(editdistance.eval(r, hypothesis)), -len(r)) for r in references)
    return edits, -shortness


def _drawn(texts: Iterable[tuple[str, ...]], number: int) -> list[tuple[str, ...]]:
    """So many different ones, chosen by their hash alone."""
    return sorted(set(texts), key=lambda t: hashlib.sha256("\n".join(t).encode()).digest())[:number]
