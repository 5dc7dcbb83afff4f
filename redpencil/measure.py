"""What is counted as an error of a task, what it is called, and how much of it may be lost unnoticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redpencil import caption_metrics, metrics
from redpencil.types import Task


@dataclass(frozen=True, slots=True)
class Measure:
    """An error rate: edits over the size of what was to be read, 0..1 and beyond.

    Its `key` is for scores; the rest of the words are how sentences call it, the `thing`s it is taken
    of, and the slices that these stand in. Without a `golden` set the base domain is what the champion
    had learned from.
    """

    key: str
    name: str
    thing: str
    does: str
    corrected: str
    taught: str
    held: str
    learned: str
    base: str
    golden: bool
    relative: float
    absolute: float

    @property
    def base_key(self) -> str:
        """The base domain's slice in a verdict's scores."""
        return "golden" if self.golden else "earlier"

    @property
    def label(self) -> str:
        return self.key.upper()

    @property
    def one(self) -> str:
        """`A line`, `An image`: how a sentence begins."""
        return f"{'An' if self.thing[0] in 'aeiou' else 'A'} {self.thing}"

    def allowed(self, rate: float) -> float:
        """How much the rate may rise unpunished."""
        return max(self.relative * rate, self.absolute)


CER = Measure(
    key="cer",
    name="CER",
    thing="line",
    does="read",
    corrected="corrected line",
    taught="correction",
    held="held-out corrected lines",
    learned="corrected lines that were trained on",
    base="golden lines",
    golden=True,
    relative=0.05,
    absolute=0.001,
)
"""5 % of the CER may be lost, or one character in 1,000 where that is more.

Less is not noticed at work, and a golden set of some 10,000 characters cannot measure it. A tuned
model that is quantised well loses 0.09 points (1.31 to 1.40 %), one quantised badly loses 0.2.
"""

WER = Measure(
    key="wer",
    name="the word error rate against the nearest reference",
    thing="image",
    does="describe",
    corrected="captioned image",
    taught="newly captioned image",
    held="held-out images",
    learned="newly captioned images that were trained on",
    base="images that were trained on before",
    golden=False,
    relative=0.05,
    absolute=0.01,
)
"""5 % of the rate may be lost, or one word in 100 where that is more.

A caption has some ten words, so that is one word in every tenth caption, and most words can be said
otherwise without being wrong: a person does not notice it. Some hundred captions cannot measure less.
"""

MEASURES = {Task.OCR: CER, Task.CAPTION: WER}


def edits(task: Task, texts: Sequence[str], said: str) -> int:
    """How far what was said is from the truth: in characters of a line, in words of a caption."""
    if task is Task.CAPTION:
        return caption_metrics.nearest(texts, said)[0]
    return metrics.distance(texts[0], said)


def extent(task: Task, texts: Sequence[str]) -> int:
    """What edits are divided by: the characters of a line, the words of an image's captions."""
    return caption_metrics.length(texts) if task is Task.CAPTION else len(metrics.characters(texts[0]))
