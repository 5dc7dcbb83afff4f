"""Which lines to ask about: doubtful, new, and not like each other."""

from redpencil.asking import Candidate, choose


def line(text: str, sure: float = 0.5, document: str = "a") -> Candidate:
    return Candidate(("pred", text), text, (sure,) * len(text), document)


def texts(chosen: list[Candidate]) -> list[str]:
    return [c.text for c in chosen]


def test_the_doubtful_line_comes_before_the_sure_one() -> None:
    sure, doubtful = line("alte drucke", 0.99), line("neue karten", 0.5)
    assert texts(choose([sure, doubtful], 1)) == ["neue karten"]


def test_one_doubtful_character_counts_though_the_rest_is_sure() -> None:
    one = Candidate(("pred", "x"), "alte drucke", (0.99,) * 10 + (0.3,), "a")
    assert choose([line("neue karten", 0.95), one], 1) == [one]


def test_lines_that_are_alike_do_not_come_together() -> None:
    alike = [line(f"total amount {n}", 0.4) for n in range(5)]
    other = line("quick brown fox", 0.5)
    assert other in choose([*alike, other], 2)


def test_rare_characters_come_before_common_ones() -> None:
    common = [line(word) for word in ("anna", "nana", "nnaa")]
    assert "anſa" in texts(choose([*common, line("anſa")], 2))


def test_documents_take_turns() -> None:
    lines = [line("abc", document="a"), line("def", document="a"), line("ghi", document="b")]
    assert {c.document for c in choose(lines, 2)} == {"a", "b"}


def test_what_was_asked_of_late_counts_as_known() -> None:
    lines = [line("alte drucke"), line("neue karten")]
    assert texts(choose(lines, 1, asked=["alte drucke"] * 3)) == ["neue karten"]
    assert texts(choose(lines, 1, asked=["neue karten"] * 3)) == ["alte drucke"]


def test_a_line_in_which_nothing_was_read_waits_its_turn() -> None:
    empty = [Candidate(("pred", f"e{n}"), "", (), "a") for n in range(3)]
    lines = [line("neue karten", 0.4), *empty]
    assert texts(choose(lines, 1)) == ["neue karten"]
    assert len(choose(lines, 9)) == 4
    assert choose([], 3) == []
