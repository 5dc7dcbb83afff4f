"""Which corrections are probably wrong: by what readers who did not learn from them make of them."""

from dataclasses import replace

from redpencil.suspects import BOUND, Opinion, Seen, Suspicion, weigh

WORDS = ("alte drucke", "neue karten", "das alte buch", "ein neuer druck", "karten und buch")


def line(n: int, text: str, author: str = "ann", **opinion: object) -> Seen:
    """A line that a reader reads as `text` without doubt, unless told otherwise."""
    said = {"reading": text, "reading_cost": 1.0, "cost": 1.0, "others": (60.0, 70.0, 80.0)} | opinion
    return Seen(f"corr_{n}", author, f"page {n % 4}", text, [Opinion(**said)])


def lines(count: int = 40) -> list[Seen]:
    return [line(n, f"{WORDS[n % len(WORDS)]} {n}") for n in range(count)]


def suspicion(seen: list[Seen], last: Seen) -> Suspicion:
    return weigh([*seen, last])[-1]


def test_what_the_readers_agree_with_is_not_suspect() -> None:
    assert max(s.score for s in weigh(lines())) < 0.1
    assert weigh([]) == []


def test_a_text_that_fits_no_better_than_any_other_is_suspect() -> None:
    found = suspicion(lines(), line(99, "karten", reading="ein altes buch", cost=70.0))
    assert found.score > BOUND
    assert "reads “ein altes buch”" in found.why


def test_the_text_of_a_neighbour_is_named() -> None:
    near = {"ein altes buch": 2.0, "drucke": 90.0}
    found = suspicion(lines(), line(99, "karten", reading="ein altes buck", cost=70.0, near=near))
    assert "neighbouring line: “ein altes buch”" in found.why


def test_a_slip_is_suspect_where_picture_and_spelling_say_something_else() -> None:
    slip = line(99, "neue kartxn", reading="neue karten", reading_cost=0.5, cost=16.0)
    found = suspicion(lines(), slip)
    assert found.score > BOUND
    assert "slip" in found.why
    spelled = line(99, "neue karten", reading="neue kartxn", reading_cost=0.5, cost=16.0)
    assert suspicion(lines(), spelled).score < found.score


def test_the_reader_who_agrees_speaks_for_a_text() -> None:
    against = line(99, "karten", reading="ein altes buch", cost=70.0)
    both = replace(against, opinions=[*against.opinions, line(99, "karten").opinions[0]])
    assert suspicion(lines(), both).score < 0.1


def test_where_readers_know_little_odd_lines_are_usual() -> None:
    hard = [line(n, s.text, reading="xx xxxx x", cost=40.0) for n, s in enumerate(lines())]
    odd = line(99, "alte karten", reading="xxx xx", cost=42.0)
    assert suspicion(hard, odd).score < BOUND < suspicion(lines(), odd).score
    clueless = [line(n, s.text, reading="", cost=70.0) for n, s in enumerate(lines())]
    assert max(s.score for s in weigh(clueless)) < BOUND


def test_what_was_stated_before_counts_where_it_fits_better() -> None:
    said = {"reading": "neue karten", "cost": 9.0}
    worse = line(99, "neue kartem", earlier={"neue karten": 1.0}, **said)
    found = suspicion(lines(), worse)
    assert found.score > suspicion(lines(), line(99, "neue kartem", **said)).score
    assert "before" in found.why
    assert suspicion(lines(), line(99, "neue karten", earlier={"neve karten": 9.0})).score < 0.1


def test_an_author_who_was_often_wrong_is_trusted_less() -> None:
    seen = [replace(s, author="bob" if n % 2 else "ann") for n, s in enumerate(lines())]
    doubtful = line(99, "neue karten", "bob", reading="neue kavten", cost=6.0)
    before = weigh([*seen, doubtful])[-1].score
    assert weigh([*seen, doubtful], {"bob": (0, 20)})[-1].score > before
    assert weigh([*seen, doubtful], {"bob": (200, 0), "ann": (0, 10)})[-1].score < before


def test_a_text_that_has_no_room_is_suspect_and_a_line_without_others_is_not_judged_by_them() -> None:
    no_room = line(99, "karten und buch", reading="ein", cost=float("inf"))
    assert suspicion(lines(), no_room).score > BOUND
    assert weigh([line(1, "karten", others=(), cost=1.5)])[0].score < BOUND
