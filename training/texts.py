"""Made-up texts of the kinds that people photograph: prose, receipts, forms, figures, Chinese, Japanese.

Nothing here is quoted from anywhere: words are drawn from word lists and put into patterns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Rng = np.random.Generator
Words = Sequence[str]


def _listed(text: str, separator: str | None = None) -> list[str]:
    return [part.strip() for part in text.split(separator)]


COMMON = _listed(
    """
    the of and to in a is that it was for on are as with his they at be this from have or by one had not
    but what all were when we there can an your which their said if do will each about how up out them
    then she many some so these would other into has more her two like him see time could no make than
    first been its who now people my made over did down only way find use may water long little very
    after words called just where most know get through back much before go good new write our used me
    man too any day same right look think also around another came come work three word must because
    does part even place well such here take why help put different away again off went old number great
    tell men say small every found still between name should home big give air line set own under read
    last never us left end along while might next sound below saw something thought both few those
    always looked show large often together asked house world going want school important until form
    food keep children feet land side without boy once animals life enough took four head above kind
    began almost live page got earth need far hand high year mother light country father let night
    picture being study second soon story since white ever paper hard near sentence better
    """
)
GERMAN = _listed(
    """
    der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an werden
    """
)
FRENCH = _listed(
    """
    le la les de des et en un une du que est pour dans qui par plus sur ne se au avec ce il sont pas
    """
)
ITEMS = _listed(
    """
    total subtotal tax cash change amount due balance qty price item discount rounding visa card receipt
    invoice no date time cashier counter thank you please come again goods sold are not returnable
    member points service charge net gross paid tel fax email open daily order table guest bill ref code
    unit each
    """
)
FIELDS = _listed(
    """
    Name, Date, Address, Telephone, To, From, Subject, Title, Department, Company, Signature,
    Account Number, Amount, Page, Brand, Region, Comments, Remarks, Approved by, Prepared by,
    Date of birth, Period covered, Project No, Reference
    """,
    ",",
)
MONTHS = _listed(
    """
    January February March April May June July August September October November December
    """
)


@dataclass(frozen=True)
class Lexicon:
    """Word lists to draw from; `german` and `french` may be empty."""

    english: Words
    german: Words = ()
    french: Words = ()


def pick(rng: Rng, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def digits(rng: Rng, count: int) -> str:
    return "".join(str(d) for d in rng.integers(0, 10, count))


def prose(rng: Rng, lexicon: Lexicon) -> str:
    """A piece of running text, cut where a printed line might end."""
    return _running(rng, COMMON, lexicon.english)


def german(rng: Rng, lexicon: Lexicon) -> str:
    return _running(rng, GERMAN, lexicon.german)


def french(rng: Rng, lexicon: Lexicon) -> str:
    return _running(rng, FRENCH, lexicon.french)


def receipt(rng: Rng, lexicon: Lexicon) -> str:
    """A short line of a receipt, mostly in capitals."""
    words = " ".join(_any_word(rng, ITEMS, lexicon.english) for _ in range(rng.integers(1, 4)))
    patterns = (
        words,
        words,
        f"{words}: {price(rng)}",
        f"{words} {price(rng)}",
        f"{rng.integers(1, 20)} x {price(rng)}",
        f"{words} {rng.integers(1, 30)}{pick(rng, (' PCS', 'KG', 'ML', 'G', '%', 'L'))}",
        f"{words} NO: {code(rng)}",
        f"{date(rng)} {clock(rng)}",
        f"TEL: {phone(rng)}",
        price(rng),
        code(rng),
        f"{digits(rng, int(rng.integers(7, 14)))}",
        f"({pick(rng, ITEMS)} {rng.integers(1, 25)}%)",
    )
    text = pick(rng, patterns)
    return text.upper() if rng.random() < 0.8 else text.title()


def form(rng: Rng, lexicon: Lexicon) -> str:
    """A label of a form, alone or with what was filled in."""
    label = pick(rng, FIELDS)
    values = (
        "",
        date(rng),
        phone(rng),
        price(rng),
        code(rng),
        _person(rng, lexicon),
        " ".join(_any_word(rng, COMMON, lexicon.english) for _ in range(rng.integers(1, 6))).capitalize(),
    )
    text = f"{label}{pick(rng, (':', '', ' -', '.'))} {pick(rng, values)}".strip()
    return text.upper() if rng.random() < 0.3 else text


def figures(rng: Rng, lexicon: Lexicon) -> str:
    """Numbers, dates, prices and codes side by side."""
    kinds: tuple[Callable[[Rng], str], ...] = (price, date, clock, phone, code, number)
    return " ".join(kinds[int(rng.integers(len(kinds)))](rng) for _ in range(rng.integers(1, 4)))


def chinese(rng: Rng, lexicon: Lexicon) -> str:
    """Common characters of GB 2312 in random order."""
    return "".join(_hanzi(rng) for _ in range(rng.integers(4, 16)))


def japanese(rng: Rng, lexicon: Lexicon) -> str:
    """Kana with a few characters between."""
    kana = [
        chr(c)
        for c in (*range(0x3042, 0x308E), *range(0x30A2, 0x30EE))
        if chr(c) not in "ぃぅぇぉっァィゥェォッ"
    ]
    return "".join(
        pick(rng, kana) if rng.random() < 0.75 else _hanzi(rng) for _ in range(rng.integers(4, 16))
    )


def price(rng: Rng) -> str:
    whole = int(np.exp(rng.uniform(0, 8)))
    amount = f"{whole:,}.{digits(rng, 2)}" if rng.random() < 0.8 else f"{whole}.{digits(rng, 2)}"
    return pick(rng, ("", "", "", "$", "$ ", "€", "£", "RM ", "USD ", "-")) + amount


def date(rng: Rng) -> str:
    day, month, year = int(rng.integers(1, 29)), int(rng.integers(1, 13)), int(rng.integers(1850, 2030))
    named = pick(rng, MONTHS)
    return pick(
        rng,
        (
            f"{day:02}/{month:02}/{year}",
            f"{month}/{day}/{year % 100:02}",
            f"{day:02}-{month:02}-{year}",
            f"{year}-{month:02}-{day:02}",
            f"{day}. {month}. {year}",
            f"{named} {day}, {year}",
            f"{day} {named[:3]} {year}",
        ),
    )


def clock(rng: Rng) -> str:
    time = f"{rng.integers(0, 24):02}:{rng.integers(0, 60):02}"
    return time + pick(rng, ("", f":{rng.integers(0, 60):02}", " PM", " AM"))


def phone(rng: Rng) -> str:
    return pick(
        rng,
        (
            f"{digits(rng, 2)}-{digits(rng, 8)}",
            f"({digits(rng, 3)}) {digits(rng, 3)}-{digits(rng, 4)}",
            f"+{rng.integers(1, 99)} {digits(rng, 3)} {digits(rng, 6)}",
        ),
    )


def code(rng: Rng) -> str:
    letters = "".join(pick(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.integers(1, 4)))
    return pick(
        rng, (f"{letters}{digits(rng, 5)}", f"{letters}-{digits(rng, 4)}", f"{digits(rng, 4)}/{letters}")
    )


def number(rng: Rng) -> str:
    return pick(
        rng,
        (
            digits(rng, int(rng.integers(1, 6))),
            f"{rng.integers(0, 100)}%",
            f"{rng.integers(1, 99)}.{digits(rng, 1)}",
        ),
    )


def _running(rng: Rng, common: Words, rare: Words) -> str:
    parts: list[str] = []
    length, starts = int(rng.integers(14, 62)), bool(rng.random() < 0.4)
    while sum(len(p) + 1 for p in parts) < length:
        word = _any_word(rng, common, rare)
        parts.append((word[:1].upper() + word[1:] if starts else word) + _mark(rng))
        starts = parts[-1][-1] in ".?!"
    text = " ".join(parts)
    if rng.random() < 0.15:
        text = pick(rng, ("“", '"', "(", "— ")) + text
    return text if rng.random() < 0.8 else text[:length].rstrip() + "-"


def _mark(rng: Rng) -> str:
    return pick(rng, ("",) * 30 + (",",) * 4 + (".",) * 3 + (";", ":", "?", "!", ".”", ",”", ")", "—"))


def _any_word(rng: Rng, common: Words, rare: Words) -> str:
    return pick(rng, common) if rng.random() < 0.6 or not rare else pick(rng, rare)


def _person(rng: Rng, lexicon: Lexicon) -> str:
    return f"{pick(rng, 'ABCDEFGHJKLMNPRSTW')}. {_any_word(rng, COMMON, lexicon.english).capitalize()}"


def _hanzi(rng: Rng) -> str:
    """One of the 3,755 common characters (level 1 of GB 2312)."""
    row, cell = divmod(int(rng.integers(3755)), 94)
    return bytes([0xB0 + row, 0xA1 + cell]).decode("gb2312")
