"""Lines of a kind that was corrected are known again, others are not."""

import pytest
import torch
from torch.nn import functional as F

from training import familiar
from training.familiar import FAR, HIGHEST, IN_CAPITALS, LIKE, LOWEST, RENDERED, Familiar, bars_of

CHANNELS = 128
NOISE = torch.Generator().manual_seed(0)


def lines(kind: int, count: int, spread: float) -> list[torch.Tensor]:
    """Features [C,1,V] of lines of any width, around a place of their kind."""
    place = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(kind)) * 3
    made = []
    for _ in range(count):
        centre = place + spread * torch.randn(CHANNELS, generator=NOISE)
        width = int(torch.randint(10, 40, (), generator=NOISE))
        made.append((centre[:, None, None] + torch.randn(CHANNELS, 1, width, generator=NOISE)).half())
    return made


def share(knows: Familiar, met: list[torch.Tensor]) -> float:
    return sum(bool(knows(line.float()[None])) for line in met) / len(met)


@pytest.fixture(scope="module")
def any_kind() -> Familiar:
    return Familiar.of([line for kind in range(100, 400) for line in lines(kind, 1, 1.0)])


def test_a_kind_is_known_after_some_lines_and_no_other(any_kind: Familiar) -> None:
    knows = any_kind.with_examples(lines(1, 16, 1.0))
    assert share(knows, lines(1, 50, 1.0)) > 0.95
    assert max(share(knows, lines(kind, 20, 1.0)) for kind in range(2, 12)) <= 0.05


def test_two_kinds_told_one_after_the_other_are_both_known(any_kind: Familiar) -> None:
    knows = any_kind.with_examples(lines(1, 16, 1.0)).with_examples(lines(2, 16, 1.0))
    assert min(share(knows, lines(kind, 50, 1.0)) for kind in (1, 2)) > 0.95
    assert share(knows, lines(3, 50, 1.0)) <= 0.05


def test_a_kind_of_many_sorts_has_lower_bars_than_one_that_is_all_alike(any_kind: Familiar) -> None:
    alike, mixed = any_kind.with_examples(lines(1, 16, 0.5)), any_kind.with_examples(lines(1, 16, 4.0))
    assert alike.bars.mean() > mixed.bars.mean()
    assert share(mixed, lines(1, 50, 4.0)) > 0.5


def test_a_line_told_twice_is_one_example(any_kind: Familiar) -> None:
    told = lines(1, 5, 1.0)
    once, twice = any_kind.with_examples(told), any_kind.with_examples([*told, *told]).with_examples(told[:2])
    torch.testing.assert_close(once.examples, twice.examples)
    torch.testing.assert_close(once.bars, twice.bars)


def test_a_corrected_line_is_familiar_itself_however_few_there_are(any_kind: Familiar) -> None:
    told = [lines(kind, 1, 1.0)[0] for kind in range(1, 4)]
    for few in (told[:1], told[:2], told):
        assert share(any_kind.with_examples(few), few) == 1.0


def test_bars_stay_within_bounds_and_a_lone_line_has_the_highest() -> None:
    unit = F.normalize(torch.randn(30, 8, generator=NOISE), dim=-1)
    assert bars_of(unit).min() >= LOWEST
    assert bars_of(unit).max() <= HIGHEST
    assert bars_of(unit[:1]).tolist() == pytest.approx([HIGHEST])
    assert len(bars_of(unit, 20)) == 10


def test_padding_changes_nothing(any_kind: Familiar) -> None:
    knows = any_kind.with_examples(lines(1, 16, 1.0))
    for line in (*lines(1, 10, 2.0), *lines(2, 10, 2.0)):
        padded = F.pad(line.float(), (0, 7))[None]
        valid = (torch.arange(padded.shape[-1]) < line.shape[-1])[None]
        assert bool(knows(padded, valid)) == bool(knows(line.float()[None]))


def test_no_more_examples_are_kept_than_stated(any_kind: Familiar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(familiar, "MOST", 12)
    knows = any_kind.with_examples(lines(1, 10, 1.0)).with_examples(lines(2, 10, 1.0))
    assert knows.examples.shape == (CHANNELS, 12)
    assert len(knows.bars) == 12


def test_rendered_examples_ask_for_more_and_change_no_bar_of_corrected_ones(any_kind: Familiar) -> None:
    corrected, rendered = lines(1, 16, 2.0), lines(1, 30, 2.0)
    alone, both = (
        any_kind.with_examples(corrected),
        any_kind.with_examples(corrected).with_examples(rendered, rendered=True),
    )
    torch.testing.assert_close(both.bars[:16], alone.bars)
    assert set(both.bars[16:].tolist()) == {RENDERED}
    more = lines(2, 8, 2.0)
    torch.testing.assert_close(both.with_examples(more).bars[46:], alone.with_examples(more).bars[16:])


def test_rendered_lines_alone_make_their_kind_known(any_kind: Familiar) -> None:
    knows = any_kind.with_examples(lines(1, 3, 1.0)).with_examples(lines(2, 30, 1.0), rendered=True)
    assert share(knows, lines(2, 50, 1.0)) > 0.9
    assert share(knows, lines(3, 50, 1.0)) <= 0.05


def said(knows: Familiar, met: list[torch.Tensor]) -> list[int]:
    return [int(knows(line.float()[None])) for line in met]


def test_lines_very_near_to_one_in_capitals_are_written_so_and_others_of_their_kind_are_not(
    any_kind: Familiar,
) -> None:
    near, loose = lines(1, 16, 0.7), lines(2, 16, 9.0)
    knows = any_kind.with_examples([*near, *loose], habits=["capitals"] * 32)
    assert said(knows, near) == [IN_CAPITALS] * 16, "whoever is an example is near to it"
    assert said(knows, lines(1, 20, 0.7)).count(IN_CAPITALS) > 15
    others = said(knows, lines(2, 50, 9.0))
    assert others.count(LIKE) > others.count(IN_CAPITALS)
    assert IN_CAPITALS not in said(knows, lines(3, 50, 1.0))


def test_a_nearer_line_with_small_letters_says_that_these_are_small(any_kind: Familiar) -> None:
    capital, small = lines(1, 16, 1.0), lines(2, 16, 1.0)
    between = [((a[:, :, :10] + b[:, :, :10]) / 2).half() for a, b in zip(capital, small, strict=True)]
    alone = any_kind.with_examples(capital, habits=["capitals"] * 16)
    assert set(said(alone, between)) == {IN_CAPITALS}
    both = alone.with_examples(small, habits=["small"] * 16).with_examples(between[:8], habits=["small"] * 8)
    assert set(said(both, between[8:])) == {LIKE}
    assert said(both, capital) == [IN_CAPITALS] * 16


def test_what_says_nothing_of_capitals_changes_nothing_of_them(any_kind: Familiar) -> None:
    met = lines(1, 20, 1.0)
    knows = any_kind.with_examples(lines(1, 16, 1.0))
    assert IN_CAPITALS not in said(knows, met)
    habits = knows.with_examples(lines(2, 4, 1.0), habits=["capitals", "small", None, "capitals"])
    assert said(habits, met) == said(knows, met)
    assert habits.capitals.tolist()[16:] == [0.0, FAR, FAR, 0.0]
    assert habits.small.tolist()[16:] == [FAR, 0.0, FAR, FAR]


def test_what_is_read_right_untaught_makes_nothing_familiar(any_kind: Familiar) -> None:
    wrong, right = lines(1, 16, 1.0), lines(2, 16, 1.0)
    knows = any_kind.with_examples([*wrong, *right], known=[False] * 16 + [True] * 16)
    assert share(knows, lines(1, 50, 1.0)) > 0.95
    assert share(knows, [*right, *lines(2, 50, 1.0)]) == 0.0
    torch.testing.assert_close(knows.bars[:16], any_kind.with_examples(wrong).bars)
    more = lines(3, 8, 2.0)
    torch.testing.assert_close(
        knows.with_examples(more).bars[32:], any_kind.with_examples(wrong).with_examples(more).bars[16:]
    )
    assert share(any_kind.with_examples(right, known=[True] * 16), right) == 0.0


def test_a_line_like_others_that_is_read_right_untaught_is_left_as_it_is(any_kind: Familiar) -> None:
    taught = lines(1, 16, 1.0)
    met = lines(1, 1, 1.0)
    assert share(any_kind.with_examples(taught), met) == 1.0
    assert share(any_kind.with_examples(taught).with_examples(met, known=[True]), met) == 0.0
    assert share(any_kind.with_examples(taught).with_examples(met, known=[True]), lines(1, 50, 1.0)) > 0.5


def test_a_line_that_is_read_right_but_for_capitals_is_written_so(any_kind: Familiar) -> None:
    met = lines(1, 16, 0.7)
    knows = any_kind.with_examples(met, known=[True] * 16, habits=["capitals"] * 16)
    assert said(knows, met) == [IN_CAPITALS] * 16
