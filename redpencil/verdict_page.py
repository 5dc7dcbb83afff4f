"""A verdict as a page to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from redpencil.measure import MEASURES
from redpencil.slices import FATES
from redpencil.types import Verdict
from redpencil.wording import percent


def report_markdown(verdict: Verdict) -> str:
    """The verdict as a page to read: the answer, why, the numbers, and what got worse."""
    against = f"against version {verdict.champion}" if verdict.champion else "with no version before it"
    title = (
        f"# Version {verdict.candidate}: {verdict.outcome}" if verdict.candidate else f"# {verdict.outcome}"
    )
    broken = [key for key, fate in verdict.items.items() if fate == "newly_broken"]
    blocks = [
        title,
        f"Judged {against}, as {verdict.precision.value.upper()}.",
        "\n".join(f"- {reason}" for reason in verdict.reasons),
        _table(verdict),
        *([_captions(captions)] if (captions := verdict.scores.get("captions")) else []),
        *([_graphemes(graphemes)] if (graphemes := verdict.scores.get("graphemes")) else []),
        f"Newly broken corrections: {', '.join(f'`{key}`' for key in broken) or 'none'}.",
    ]
    return "\n\n".join(blocks) + "\n"


def _table(verdict: Verdict) -> str:
    measure = next(m for m in MEASURES.values() if m.base_key in verdict.scores)
    names = [f"{measure.thing}s", "number", f"{measure.label} champion", f"{measure.label} candidate"]
    names += ["INT8", "FP32", "exact before", "after", *(fate.replace("_", " ") for fate in FATES)]
    rows = [_row(names), "|---" * len(names) + "|"]
    for name in ("holdout", "trained", measure.base_key):
        part = verdict.scores[name]
        rates = [part[measure.key][who] for who in ("champion", "candidate", "int8", "fp32")]
        rates += [part["exact"][who] for who in ("champion", "candidate")]
        cells = ["-" if rate is None else percent(rate, 2) for rate in rates]
        rows.append(_row((name, str(part["lines"]), *cells, *(str(part["counts"][fate]) for fate in FATES))))
    return "\n".join(rows)


def _captions(captions: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Per slice, and per who wrote them, what captions are worth: better where higher."""
    names = list(dict.fromkeys(name for by in captions.values() for scores in by.values() for name in scores))
    rows = [_row(("images", "captions of", *(name.upper().replace("_", "-") for name in names)))]
    rows.append("|---" * (2 + len(names)) + "|")
    for part, by in captions.items():
        rows += [_row((part, who, *(f"{scores[n]:.3f}" for n in names))) for who, scores in by.items()]
    return "\n".join(rows)


def _graphemes(graphemes: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """Per slice the error rate of letters as they are seen, before and after."""
    told = [
        f"{part} {' > '.join(percent(by[who]['cer'], 2) for who in ('champion', 'candidate') if who in by)}"
        for part, by in graphemes.items()
    ]
    return f"Of graphemes (a letter with all its signs counts once) the CER is: {', '.join(told)}."


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
