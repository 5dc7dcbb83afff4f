"""A shop's stream of corrections, simulated: skewed error rates, documents whose lines fail together.

Documents come in one after another, two people correct them at the same time, and most lines are
nearly right while some documents are hopeless. Everything follows from the random generator given.

`python tests/simulated_shop.py 1000` prints the table of docs/evidence.md (minutes).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from redpencil.betting import wealth_path
from redpencil.labels import WORST, Arm, Label, Unit, differences, settle

SETTLE_S = 60.0
NEVER = 1e12
Random = np.random.Generator


@dataclass(frozen=True)
class Shop:
    """`better` is what B's error rates are multiplied with; 1 means that the arms are alike."""

    documents: int = 80
    mean_lines: float = 5.0
    better: float = 1.0
    weight: Callable[[int], float] = lambda document: 0.5
    drift: Callable[[int], float] = lambda document: 1.0
    split_documents: bool = False

    def labels(self, random: Random) -> list[Label]:
        """Labels of both arms in the order of their coming."""
        found = [label for document in range(self.documents) for label in self._document(document, random)]
        return sorted(found, key=lambda label: label.at)

    def _document(self, document: int, random: Random) -> Iterator[Label]:
        difficulty = hardness(random) * self.drift(document)
        arm = draw_arm(self.weight(document), random)
        for line in range(random.geometric(1 / self.mean_lines)):
            if self.split_documents:
                arm = draw_arm(self.weight(document), random)
            chars = int(random.integers(8, 60))
            errors = misread(chars, difficulty * (self.better if arm == "B" else 1.0), random)
            yield Label(f"doc-{document}", arm, 100.0 * document + 25.0 * line, chars, errors)


NULLS = {
    "whole documents in one arm": Shop(documents=150),
    "one in ten to the challenger": Shop(documents=300, weight=lambda document: 0.1),
    "pages of a document in both arms": Shop(documents=100, split_documents=True),
    "harder documents while the weight grows": Shop(
        documents=200,
        weight=lambda document: 0.1 if document < 100 else 0.5,
        drift=lambda document: 1 + document / 100,
    ),
    "single lines": Shop(documents=300, mean_lines=1),
}


@dataclass(frozen=True)
class MirroredShop:
    """A answers everything and B reads along; people correct what they see wrong, an audit draws the rest."""

    documents: int = 80
    mean_lines: float = 5.0
    better: float = 1.0
    corrected: float = 0.3
    accepted: float = 0.02
    audited: float = 0.3

    def labels(self, random: Random) -> list[Label]:
        found = [label for document in range(self.documents) for label in self._document(document, random)]
        return sorted(found, key=lambda label: label.at)

    def _document(self, document: int, random: Random) -> Iterator[Label]:
        difficulty = hardness(random)
        for line in range(random.geometric(1 / self.mean_lines)):
            chars = int(random.integers(8, 60))
            a, b = (misread(chars, difficulty * factor, random) for factor in (1.0, self.better))
            chosen = random.random() < (self.corrected if a else self.accepted)
            if chosen or random.random() < self.audited:
                at = 100.0 * document + 5.0 * line
                yield Label(f"doc-{document}", "A", at, chars, a, b, None if chosen else self.audited)


def draw_arm(weight: float, random: Random) -> Arm:
    return "B" if random.random() < weight else "A"


def hardness(random: Random) -> float:
    """The error rate of a document: some 5 %, and one in twenty is hopeless."""
    return float(random.beta(8, 8) if random.random() < 0.05 else random.beta(0.6, 12))


def misread(chars: int, rate: float, random: Random) -> int:
    """Edits of one line of a document with this rate; lines of it differ, most by little."""
    return int(random.binomial(chars, min(1.0, rate * random.gamma(1.5, 1 / 1.5))))


def units_of(labels: list[Label]) -> list[Unit]:
    return settle(labels, NEVER, SETTLE_S, key=lambda label: (label.unit, label.arm))


def alarms(gains: np.ndarray, alpha: float, sides: tuple[int, ...] = (1, -1)) -> bool:
    """Whether somebody who looks after every difference would ever have been told B (1) or A (-1)."""
    paths = [wealth_path((1 + side * gains) / 2, 0.5) for side in sides]
    return any(path.size and path.max() >= np.log(2 / alpha) for path in paths)


def unpaired_alarms(labels: list[Label], alpha: float) -> bool:
    return alarms(np.array(differences(units_of(labels))) / WORST, alpha)


def naive_line_alarms(labels: list[Label]) -> bool:
    """A repeated t-test over corrections, as if each were a new document."""
    values = np.array([min(1.0, label.errors / label.chars) for label in labels])
    return naive_alarms(values, np.array([label.arm == "B" for label in labels]))


def naive_document_alarms(labels: list[Label]) -> bool:
    """A repeated t-test over settled documents: only the looking is wrong."""
    units = units_of(labels)
    return naive_alarms(np.array([u.cer(u.arm) for u in units]), np.array([u.arm == "B" for u in units]))


def naive_alarms(values: np.ndarray, in_b: np.ndarray, first: int = 10) -> bool:
    """Whether a t-test at 5 %, repeated after every value from `first` in each arm on, ever says so."""
    counts, means, variances = [], [], []
    for arm in (~in_b, in_b):
        n = np.maximum(np.cumsum(arm), 1)
        mean = np.cumsum(values * arm) / n
        counts.append(n)
        means.append(mean)
        variances.append((np.cumsum(values**2 * arm) / n - mean**2) * n / np.maximum(n - 1, 1))
    error = np.sqrt(variances[0] / counts[0] + variances[1] / counts[1])
    looked = (counts[0] >= first) & (counts[1] >= first) & (error > 0)
    return bool((np.abs(means[0] - means[1])[looked] > 1.96 * error[looked]).any())


def paired_alarms(labels: list[Label], alpha: float) -> bool:
    """As `evidence` bets: B has to win on the audit, A on all lines together."""
    drawn = [label for label in labels if label.audit_probability]
    return alarms(preferences(drawn), alpha, sides=(1,)) or alarms(preferences(labels), alpha, sides=(-1,))


def preferences(labels: list[Label]) -> np.ndarray:
    units = settle(labels, NEVER, SETTLE_S, key=lambda label: label.unit)
    return np.array([unit.preference() for unit in units])


def table(trials: int) -> Iterator[str]:
    """How often each method ever says that one arm is better, as rows of Markdown."""
    yield "| arms | ours | t-test per document | t-test per line |\n|---|---|---|---|"
    shops = {f"alike, {name}": shop for name, shop in NULLS.items()}
    for words, better, documents in (
        ("half", 0.5, 200),
        ("half", 0.5, 400),
        ("a quarter of", 0.25, 100),
        ("a quarter of", 0.25, 200),
    ):
        shops[f"B makes {words} the errors, {documents} documents"] = Shop(documents, better=better)
    for name, shop in shops.items():
        random = np.random.default_rng(1)
        streams = [shop.labels(random) for _ in range(trials)]
        tests = (lambda labels: unpaired_alarms(labels, 0.05), naive_document_alarms, naive_line_alarms)
        yield (
            f"| {name} | "
            + " | ".join(f"{np.mean([t(s) for s in streams]):.1%}".replace("%", " %") for t in tests)
            + " |"
        )


if __name__ == "__main__":
    print("\n".join(table(int(sys.argv[1]))))
