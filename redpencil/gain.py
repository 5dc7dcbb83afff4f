"""What the gate asks of corrections: a gain on what nobody showed the candidate, and on what it learned."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from redpencil.finding import Finding, change
from redpencil.slices import Slice
from redpencil.types import Outcome

FEW_LINES = 10


def gain(unseen: Slice, seen: Slice, fresh: Collection[str] | None) -> Iterable[Finding]:
    """Findings on lines held out and on lines trained on.

    `fresh` are the keys of lines that are new to the champion: held out since it was judged, or not
    learned by it; None: all. Where hardly a held-out line can show the gain of what is newly learned,
    what is newly learned has to.
    """
    new, taught = unseen.only(fresh), seen.only(fresh)
    shown = next((part for part in (unseen, new) if _better(part, unseen)), None)
    hardly_any = len(new.lines) < FEW_LINES and bool(taught.lines)
    few = shown is None and (len(unseen.lines) < FEW_LINES or hardly_any)
    yield _few_holdout(unseen, new) if few else _holdout(unseen, new, shown)
    yield _trained(seen, taught if few else None)
    yield from few_documents(shown or unseen)


def _better(part: Slice, whole: Slice) -> bool:
    """Enough lines, a part of the whole of more than one document, and a gain beyond chance."""
    enough = len(part.lines) >= FEW_LINES and (part.documents > 1 or part is whole)
    return enough and part.surely_better


def _holdout(unseen: Slice, new: Slice, shown: Slice | None) -> Finding:
    """On lines that it never saw, the candidate must be better beyond chance, and nowhere surely worse.

    Lines held out since the champion was judged may show it: among many older ones a gain drowns.
    """
    for part in (unseen, new):
        if part.surely_worse:
            return Finding(Outcome.FAILED, f"{change(part)}: worse.")
    if shown is None:
        return Finding(Outcome.INCONCLUSIVE, f"{change(unseen)}: no gain beyond chance.")
    if unseen.change > 0:
        more = f"{change(unseen)}: worse, but it may be chance"
        return Finding(Outcome.INCONCLUSIVE, f"{change(shown)}: better. {more}.")
    return Finding(Outcome.PASSED, f"{change(shown)}: better.")


def _few_holdout(unseen: Slice, new: Slice) -> Finding:
    """Where hardly a held-out line can show the gain of what is newly learned, none may be lost."""
    measure = unseen.measure
    caution = f"caution, fewer than {FEW_LINES} {measure.thing}s prove little"
    if len(unseen.lines) >= FEW_LINES:
        caution = f"caution, only {len(new.lines)} of them came since the champion was judged"
    if not unseen.lines:
        return Finding(Outcome.PASSED, f"No {measure.corrected} is held out yet: {caution}.")
    if unseen.surely_worse:
        return Finding(Outcome.FAILED, f"{change(unseen)}: worse.")
    if unseen.change > 0:
        return Finding(Outcome.INCONCLUSIVE, f"{change(unseen)}: worse, but it may be chance; {caution}.")
    return Finding(Outcome.PASSED, f"{change(unseen)}: not worse; {caution}.")


def few_documents(unseen: Slice) -> Iterable[Finding]:
    """Lines stand in for documents where these are too few; then the interval says less."""
    if unseen.few_documents:
        documents = "one document" if unseen.documents == 1 else f"{unseen.documents} documents"
        things = f"{unseen.measure.thing}s"
        caution = f"Caution: the held-out {things} come from only {documents}; others may gain more or less."
        yield Finding(Outcome.PASSED, caution)


def _trained(seen: Slice, taught: Slice | None) -> Finding:
    """What was trained on must not get worse. `taught`, what is new of it, must show the gain: None where
    the holdout does."""
    if not seen.lines:
        outcome = Outcome.PASSED if taught is None else Outcome.INCONCLUSIVE
        told = f"No {seen.measure.taught} has been trained on"
        return Finding(outcome, told + ("." if taught is None else ": no gain can be seen."))
    counts = seen.counts
    told = f"{change(seen)}; {counts['fixed']} fixed, {counts['newly_broken']} newly broken"
    if seen.change > 0:
        sure = seen.surely_worse
        return Finding(
            Outcome.FAILED if sure else Outcome.INCONCLUSIVE,
            f"{told}: worse{'' if sure else ', but it may be chance'}.",
        )
    if taught is not None and not _gained(taught):
        of_new = "" if len(taught.lines) == len(seen.lines) else " on those that are new"
        return Finding(Outcome.INCONCLUSIVE, f"{told}: no gain{of_new}.")
    return Finding(Outcome.PASSED, f"{told}: {'better' if seen.change < 0 else 'not worse'}.")


def _gained(taught: Slice) -> bool:
    return taught.counts["fixed"] > taught.counts["newly_broken"] or taught.surely_better
