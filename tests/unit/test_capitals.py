"""Texts in capitals are learned as they are printed, and only where a reader shows how that is."""

import pytest

from redpencil.reader import IN_CAPITALS, as_written
from redpencil.text import in_capitals
from redpencil.types import LineText
from training.capitals import all_as_printed, as_printed


@pytest.mark.parametrize(
    ("written", "reading", "printed"),
    [
        ("DATE : 12/03", "Date : 12/03", "Date : 12/03"),
        ("DATE : 12/03", "Dale ; 12103", "Date : 12/03"),  # what was misread stays corrected, in its case
        ("TAX INVOICE", "TAX INVOICE", "TAX INVOICE"),
        ("TAX INVOICE NO", "TAX lnvoice No", "TAX Invoice No"),  # each word as it is printed, short ones too
        ("DISTRIBUTION", "DiSTRiBUTiON", "DISTRIBUTION"),  # a reader's slip is not small print
        ("5.OO KG", "5.oo kg", "5.OO KG"),  # too little to tell
        ("SPOOKS", "spookS", "SPOOKS"),  # these letters are small copies of their capitals
        ("Date", "DATE", "Date"),  # it is not all in capitals, so it says what is to be read
        ("TOTAL", "", "TOTAL"),
        ("", "Total", ""),
        ("12.50", "12.50", "12.50"),
        ("STRASSE", "Straße", "Strasse"),
        ("ÜBER DIE", "Über die", "Über die"),
    ],
)
def test_small_letters_are_put_where_they_are_printed(written: str, reading: str, printed: str) -> None:
    assert as_printed(written, reading) == printed


def test_words_of_few_letters_count_where_others_show_the_habit() -> None:
    assert all_as_printed(["NO", "5 X 2"], ["No", "5 x 2"]) == ["NO", "5 X 2"]
    texts, readings = ["NO", "5 X 2", "DATE", "Sum"], ["No", "5 x 2", "Date", "Sum"]
    assert all_as_printed(texts, readings) == readings


def test_every_character_has_one_capital() -> None:
    assert in_capitals("Straße ﬁn, ſo 12") == "STRAßE ﬁN, SO 12"


def test_what_is_written_in_capitals_keeps_how_sure_it_was() -> None:
    read = LineText("Date", 0.9, (0.9, 0.8, 0.9, 1.0))
    assert as_written(read, IN_CAPITALS) == LineText("DATE", 0.9, (0.9, 0.8, 0.9, 1.0))
    assert as_written(read, 1) is read
    assert as_written(read, 0) is read
