"""A verdict as data, and as a page for people."""

import json
from dataclasses import asdict, replace

from gate_parts import image_verdict, line, some, verdict

from redpencil.gate import report_markdown


def test_a_verdict_is_json_and_a_page():
    judged = verdict(trained=[line("broken", 0, 1), *some(80, 4, 0)])
    assert json.loads(json.dumps(asdict(judged)))["scores"]["holdout"]["interval"]["units"] == 20
    page = report_markdown(judged)
    assert page.startswith("# Version 3: passed")
    assert "| holdout | 20 | 10.00 % | 2.50 % |" in page
    assert "Newly broken corrections: `broken`." in page


def test_the_page_of_captions_shows_their_rate_and_what_they_are_worth():
    judged = image_verdict()
    worth = {"bleu4": 0.5, "cider_d": 1.25}
    captions = {"holdout": {"candidate": worth, "champion": {"bleu4": 0.4, "cider_d": 1.0}}}
    page = report_markdown(replace(judged, scores=judged.scores | {"captions": captions}))
    assert "| images | number | WER champion | WER candidate |" in page
    assert "| earlier | 60 | 20.00 % | 20.00 % |" in page
    assert "| images | captions of | BLEU4 | CIDER-D |" in page
    assert "| holdout | candidate | 0.500 | 1.250 |\n| holdout | champion | 0.400 | 1.000 |" in page
    assert "captions of" not in report_markdown(judged)


def test_the_page_tells_the_error_rate_of_letters_as_they_are_seen():
    judged = verdict()
    graphemes = {"holdout": {"candidate": {"cer": 0.05}, "champion": {"cer": 0.125}}}
    page = report_markdown(replace(judged, scores=judged.scores | {"graphemes": graphemes}))
    assert "the CER is: holdout 12.50 % > 5.00 %." in page
