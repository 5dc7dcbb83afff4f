"""Corrections in a script that the base does not know bring rendered lines of it."""

import numpy as np

from benchmarks.learning.arms import begin
from redpencil import linepack
from training import common_words, data
from training.crops import Line
from training.primers import long_s, modern
from training.recipes import ppocr

WHITE = np.full((40, 200, 3), 255, np.uint8)
HYPER = ppocr.RECIPE.defaults


def corrected(*texts: str) -> list[Line]:
    return [Line(WHITE, text, str(i)) for i, text in enumerate(texts)]


def test_a_script_brings_its_own_lines() -> None:
    kannada = linepack.load("primer", "kannada")
    found = data.primer(HYPER, corrected("ಪ್ರೀತಿಯ ಬದುಕು ೩೫", "12.50"))
    assert [line.text for line in found] == [line.text for line in kannada]
    assert not any(line.key for line in found)


def test_a_long_s_brings_black_letter() -> None:
    found = data.primer(HYPER, corrected("Beſchreibung der Stadt", "und Land"))
    assert len(found) == len(linepack.load("primer", "black letter"))
    assert any("ſ" in line.text for line in found)


def test_black_letter_is_for_german() -> None:
    latin = corrected("erãt ſuper faciẽ abiſſi", "terra autem erat inanis et vacua", "et ſpiritus domini")
    assert not data.primer(HYPER, latin)
    assert common_words.mostly(["ಕ"]) == common_words.UNKNOWN


def test_real_lines_take_the_place_of_rendered_ones() -> None:
    many = corrected(*["ಬದುಕು"] * (HYPER.primer - 7))
    assert len(data.primer(HYPER, many)) == 7
    assert not data.primer(HYPER, many + corrected(*["ಬದುಕು"] * 7))


def test_what_the_parent_has_met_brings_nothing() -> None:
    kannada = corrected(*["ಬದುಕು"] * 60)
    assert not data.primer(HYPER, corrected("TOTAL 12.50", "CASH"), kannada)
    assert len(data.primer(HYPER, corrected("ಬದುಕು"), kannada)) == HYPER.primer - 61 > 0


def test_a_script_that_the_parent_hardly_knows_is_learned_faster() -> None:
    hyper = HYPER.updated({"lr": 0.01, "channel_dropout": 0.4})
    fresh, known = corrected("ಬದುಕು", "12.50"), corrected(*["ಬದುಕು"] * HYPER.primer)
    suited = data.suited(hyper, fresh)
    assert (suited.lr, suited.channel_dropout) == (0.02, 0.2)
    assert data.suited(hyper, fresh * HYPER.primer, known[1:]) == suited, "however many are corrected"
    assert data.suited(hyper, fresh, known) == hyper
    assert data.suited(hyper, corrected("TOTAL 12.50", "Grüße aus Köln")) == hyper
    assert data.suited(hyper.updated({"primer": 0}), fresh) == hyper.updated({"primer": 0})


def test_what_the_base_knows_brings_nothing() -> None:
    assert not data.primer(HYPER, corrected("TOTAL 12.50", "Grüße aus Köln", "déjà vu", "中文"))
    assert not data.primer(HYPER.updated({"primer": 0}), corrected("ಬದುಕು"))


def test_a_stray_letter_is_no_script() -> None:
    assert not data.primer(HYPER, corrected("the angle α", *["plain text"] * 19))


def test_a_reader_can_spell_letters_that_nobody_corrected_yet() -> None:
    model = begin(ppocr.RECIPE, corrected("ಬದುಕು"), HYPER)
    assert linepack.marks()["kannada"] <= set(model.alphabet)


def test_s_is_long_but_at_the_end_of_a_word() -> None:
    assert long_s("das ist es, Sassafras!") == "das iſt es, Saſſafras!"


def test_malayalam_is_spelled_as_today() -> None:
    assert modern("അവന്\u200d") == "അവൻ"
    assert not any("\u0d4d\u200d" in line.text for line in linepack.load("primer", "malayalam"))
