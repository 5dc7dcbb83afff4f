"""What every recipe promises the loop, on small models and in seconds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
import torch
from torch.nn import functional as F

from redpencil import vocab
from redpencil.bundle import Generation, Manifest
from redpencil.errors import BadInput, NotFound
from training import data, recipe
from training.crops import Line
from training.data import Batches
from training.hyper import Hyper
from training.recipes import crnn

WORDS = ("abc", "cab", "bca", "acb", "bac", "cba")


def lines(count: int) -> list[Line]:
    rng = np.random.default_rng(0)
    made = []
    for i in range(count):
        image = rng.integers(0, 255, (32, int(rng.integers(24, 40)), 3), dtype=np.uint8)
        made.append(Line(image, WORDS[i % len(WORDS)], f"c{i}", f"g{i // 4}"))
    return made


def hyper(**changed: float) -> Hyper:
    return replace(crnn.RECIPE.defaults, batch=4, report_every=3, **changed)


@pytest.fixture(scope="module")
def model() -> crnn.CRNN:
    torch.manual_seed(0)
    return crnn.build(None, WORDS).eval()


def test_recipes_are_found_by_name() -> None:
    assert {"crnn", "ppocr"} <= set(recipe.names())
    assert recipe.find("crnn").name == "crnn"
    with pytest.raises(NotFound, match="crnn"):
        recipe.find("no-such-recipe")


def test_training_parameters_are_checked() -> None:
    assert Hyper().updated({"lr": "0.01", "steps": 7}) == replace(Hyper(), lr=0.01, steps=7)
    with pytest.raises(BadInput, match="known are"):
        Hyper().updated({"learning_rate": 1})
    with pytest.raises(BadInput, match="steps must be int"):
        Hyper().updated({"steps": "many"})
    for wrong, said in (
        ({"batch": 8.9}, "batch must be int, not 8.9"),
        ({"schedule": "linear"}, "schedule is one of cosine, step, plateau"),
        ({"precision": "fp16"}, "precision is one of bf16, fp32"),
        ({"replay": 1}, "below 1"),
        ({"replay": 0, "unlabelled": 5}, "replay above 0"),
        ({"batch": 0}, "at least 1"),
        ({"validation": 5}, "validation is a share"),
        ({"seed": -1}, "seed is 0 or more"),
        ({"clip": -1}, "clip is 0 or more, not -1"),
        ({"report_every": -10}, "report_every is 0 or more"),
        ({"lr": "nan"}, "lr is 0 or more"),
        ({"dropout": 2}, "unknown training parameter"),
        ({"channel_dropout": 0.3, "copies": 0}, "channel_dropout is for kept features: set copies above 0"),
        ({"channel_dropout": 1}, "channel_dropout is a share, 0 or more and below 1"),
        ({"steps": 0, "passes": 0}, "learns nothing: set steps, passes or many_passes"),
    ):
        with pytest.raises(BadInput, match=said):
            Hyper().updated(wrong)
    for name in ("catr", "vit_gated", "clip_prefix"):
        for wrong, said in (
            ({"beams": 0}, "beams is at least 1"),
            ({"longest": 0}, "longest is at least 1"),
            ({"length_penalty": -0.1}, "length_penalty is 0 or more"),
        ):
            with pytest.raises(BadInput, match=said):
                recipe.find(name).defaults.updated(wrong)
    for name, wrong in (
        ("clip_prefix", {"prefix": 0}),
        ("clip_prefix", {"inner": 0}),
        ("clip_prefix", {"lora_r": -2}),
        ("qwen_vl_lora", {"rank": 0}),
        ("qwen_vl_lora", {"dropout": 1}),
        ("vit_gated", {"dropout": 1.5}),
        ("vit_gated", {"hidden": 0}),
        ("vit_gated", {"vision_width": 0}),
        ("vit_gated", {"factor": -1}),
        ("catr", {"backbone_lr": -1}),
    ):
        with pytest.raises(BadInput, match=f"training parameter {next(iter(wrong))} is"):
            recipe.find(name).defaults.updated(wrong)
    whole = recipe.find("catr").defaults  # whose passes are a whole number
    assert whole.updated({"passes": "0.5"}).passes == 0.5


@pytest.mark.parametrize(
    ("params", "reach", "said"),
    [
        ({"unlabelled": 500, "replay": 0.5}, 1.0, "unlabelled=500"),
        ({"primer": 100}, 1.0, "primer=100"),
        ({"replay": 0.5}, 1.0, "replay=0.5"),
        ({"channel_dropout": 0.3, "copies": 1}, 1.0, "channel_dropout=0.3"),
        ({}, 0.4, "reach=0.4"),
    ],
)
@pytest.mark.parametrize("name", ["catr", "clip_prefix", "qwen_vl_lora", "vit_gated"])
def test_who_writes_tokens_says_what_it_does_not_do(
    name: str, params: dict[str, float], reach: float, said: str
) -> None:
    chosen = recipe.find(name)
    chosen.check(chosen.defaults, 1.0)
    with pytest.raises(BadInput, match=f"{said} is for families that read lines by CTC; {name} learns"):
        chosen.check(chosen.defaults.updated(params), reach)
    for reader in map(recipe.find, ("crnn", "ppocr")):
        reader.check(reader.defaults.updated(params), reach)


def of_version(tmp_path: Path, **shape: object) -> Manifest:
    """A bundle's manifest as a run of catr leaves it, as far as the next run reads it."""
    made = tiny_bundle.build(tmp_path)
    written = Generation((1,), 2, 128, beams=5, length_penalty=0.5)
    return replace(made, lineage={"recipe": "catr", "shape": shape}, generation=written)


def test_what_a_run_goes_on_with_is_what_its_version_has(tmp_path: Path) -> None:
    """So what is on record of the run is what it was; what was asked for otherwise is refused."""
    catr, parent = recipe.find("catr"), of_version(tmp_path, hidden=64, backbone="resnet18", dropout=0.3)
    made = catr.hyper({"lr": "0.01"}, parent).to_dict()
    assert (made["hidden"], made["backbone"], made["beams"], made["lr"]) == (64, "resnet18", 5, 0.01)
    assert made["dropout"] == catr.defaults.to_dict()["dropout"], "is each run's own"
    assert made["length_penalty"] == 0.5
    other = catr.hyper({"beams": 2, "length_penalty": 1.5, "hidden": 64}, parent).to_dict()
    assert (other["beams"], other["length_penalty"]) == (2, 1.5)
    usual = catr.defaults.to_dict()["hidden"]
    with pytest.raises(BadInput, match=f"hidden is 64 .* not {usual}"):
        catr.refuse({"hidden": usual}, parent)
    assert catr.hyper({"hidden": usual, "patience": -1}, parent).to_dict()["hidden"] == 64, (
        "of a run on record"
    )
    catr.refuse({"hidden": 64, "dropout": 0.2}, parent)
    assert recipe.find("vit_gated").hyper({}, parent) == recipe.find("vit_gated").defaults


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("vit_gated", {"hidden": 32, "shown": "aerial"}),
        ("clip_prefix", {"prefix": 4}),
        ("qwen_vl_lora", {"rank": 8, "prompt": "Read."}),
    ],
)
def test_every_family_says_what_a_version_keeps(tmp_path: Path, name: str, kept: dict[str, object]) -> None:
    family, other = recipe.find(name), of_version(tmp_path, **kept)
    parent = replace(other, lineage={"recipe": name, "shape": kept})
    assert kept.items() <= family.hyper({}, parent).to_dict().items()
    for field in kept:
        with pytest.raises(BadInput, match=f"{field} is .* parent=none"):
            family.refuse({field: family.defaults.to_dict()[field]}, parent)


def test_a_run_takes_a_step_at_least() -> None:
    assert Hyper(steps=0, passes=0.01).total_steps(3) == 1


def test_few_lines_are_learned_in_few_steps() -> None:
    fitting = Hyper(steps=0, many_passes=50, batch=16, replay=0.5)  # eight corrected lines a step
    assert [fitting.total_steps(lines) for lines in (3, 32, 200, 2000)] == [100, 200, 400, 1000]
    assert fitting.total_steps(16, read=2000) == 1000, "each that nobody corrected is met four times"
    assert replace(fitting, steps=800).total_steps(3) == 800, "what a person asks for is done"
    assert recipe.find("catr").defaults.total_steps(5) < 100, "by passes alone"


def test_a_line_reads_the_same_alone_and_beside_a_wider_one(model: crnn.CRNN) -> None:
    narrow, wide = torch.randn(1, 3, 32, 61), torch.randn(1, 3, 32, 90)
    alone, (length,) = model(narrow)
    beside, lengths = model(torch.cat([F.pad(narrow, (0, 29)), wide]), torch.tensor([61, 90]))
    assert int(lengths[0]) == int(length)
    torch.testing.assert_close(beside[0, : int(length)], alone[0], atol=1e-5, rtol=1e-4)


def test_an_epoch_is_the_same_after_a_restart_and_with_any_number_of_loaders(model: crnn.CRNN) -> None:
    one, other = hyper(), replace(hyper(), loaders=2)
    first, again = (list(Batches(model, lines(10), [], h).epoch(2)) for h in (one, other))
    assert len(first) == 3
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.features, b.features)
        assert torch.equal(a.targets, b.targets)


def test_every_pass_meets_every_line_once(model: crnn.CRNN) -> None:
    stock = data.Stock(model, lines(10), 0, 1.0, 0)
    drawn = [draw for start in range(0, 30, 6) for draw in stock.draws(start, 6)]
    assert sorted(drawn) == [(i, turn) for i in range(10) for turn in range(3)]


def test_each_look_at_a_corrected_line_misses_other_channels(model: crnn.CRNN) -> None:
    batches = Batches(model, lines(10), lines(12), hyper(copies=1, channel_dropout=0.4))
    whole = data.Stock(model, lines(1), 1, 0.0, 0, 0.0).features(0, 0)
    part = data.Stock(model, lines(1), 1, 0.0, 0, 0.4)
    looks = [part.features(0, turn) for turn in range(60)]
    assert torch.equal(looks[7], part.features(0, 7)), "a resumed run sees what the interrupted one saw"
    for look in looks:
        for channel, seen in zip(look, whole, strict=True):
            assert not channel.any() or torch.allclose(channel, seen / 0.6)
    missed = np.mean([not channel.any() for look in looks for channel in look])
    assert 0.25 < missed < 0.55
    assert (batches.new.dropped, batches.known.dropped, batches.old.dropped) == (0.4, 0.4, 0.0)


def test_few_new_lines_are_met_as_often_as_the_many_that_are_known(model: crnn.CRNN) -> None:
    new, known = lines(6)[:2], [replace(x, text="cc") for x in lines(20)]
    batches = Batches(model, new, [], hyper(), known=known)
    spelled = torch.tensor(vocab.encode("cc", model.alphabet))
    drawn = [text for b in batches.epoch(0) for text in b.targets.split(b.target_lengths.tolist())]
    assert sum(torch.equal(text, spelled) for text in drawn) == len(drawn) / 2


def test_workers_share_the_lines_and_take_equally_many_steps(model: crnn.CRNN) -> None:
    shares = [Batches(model, lines(10), [], hyper(), rank, 3) for rank in range(3)]
    keys = [line.key for s in shares for line in s.new.lines]
    assert sorted(keys) == sorted(line.key for line in lines(10))
    assert {len(list(s.epoch(0))) for s in shares} == {3}


def test_whole_groups_validate_and_few_all_learn() -> None:
    learn, validate = data.set_aside(lines(120), 0.1)
    assert not {x.group for x in learn} & {x.group for x in validate}
    assert len({x.group for x in validate}) == 3
    few = lines(80)  # two documents would tell of their own kind alone
    assert data.set_aside(few, 0.1) == (few, [])
    assert len({x.group for x in data.set_aside(few, 1.0)[0]}) == 1, "something is always learned"


def test_documents_with_new_lines_validate() -> None:
    met = lines(160)
    fresh = {x.group for x in met[:120]}
    known = {x.key for x in met[120:]}
    learn, validate = data.set_aside(met, 0.1, known)
    assert len({x.group for x in validate}) == 3
    assert {x.group for x in validate} < fresh
    assert known <= {x.key for x in learn}
    few = {x.key for x in met if x.group not in {f"g{n}" for n in range(5)}}
    assert data.set_aside(met, 0.1, few) == (met, []), "five new documents are all learned"
    every = {x.key for x in met}
    assert len({x.group for x in data.set_aside(met, 0.1, every)[1]}) == 4, "nothing is new"


def test_empty_lines_and_lines_too_narrow_for_their_text_have_a_finite_loss(model: crnn.CRNN) -> None:
    logits, lengths = model(torch.randn(2, 3, 32, 16), torch.tensor([16, 16]))
    loss = model.loss(logits, torch.tensor([1, 2, 3, 1, 2, 3, 3, 3, 3]), torch.tensor([0, 9]), lengths, 0.1)
    assert torch.isfinite(loss)


def test_smoothing_punishes_certainty() -> None:
    sure = torch.full((1, 4, 3), -20.0)
    sure[..., 1] = 20.0
    model = crnn.build(None, ["ab"])
    given = (torch.tensor([1]), torch.tensor([1]), torch.tensor([4]))
    assert model.loss(sure, *given, 0.1) > model.loss(sure, *given, 0.0) + 1


def test_a_loss_falls_within_a_few_steps() -> None:
    torch.manual_seed(0)
    model = crnn.build(None, WORDS).train()
    batch = next(Batches(model, lines(4), [], hyper()).epoch(0))
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    losses = []
    for _ in range(5):
        logits, lengths = model(batch.features, batch.widths)
        loss = model.loss(logits, batch.targets, batch.target_lengths, lengths, 0.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] * 0.9


def test_the_models_of_a_version_stay_and_a_base_may_have_moved(tmp_path: Path) -> None:
    clip, qwen, made = recipe.find("clip_prefix"), recipe.find("qwen_vl_lora"), tiny_bundle.build(tmp_path)
    parent = replace(
        made, lineage={"recipe": "clip_prefix", "shape": {"language": "models/q", "prompt": "seen:"}}
    )
    assert clip.hyper({}, parent).to_dict()["language"] == "models/q"
    with pytest.raises(BadInput, match="language is 'models/q' in the version"):
        clip.refuse({"language": "models/other"}, parent)
    older = replace(
        made, lineage={"recipe": "clip_prefix", "shape": {"language": {"hidden_size": 8}, "prefix": 3}}
    )
    kept = clip.hyper({}, older).to_dict()
    assert (kept["prefix"], kept["language"]) == (3, clip.defaults.to_dict()["language"])
    parent = replace(made, lineage={"recipe": "qwen_vl_lora", "shape": {"base": "old/place", "rank": 8}})
    assert qwen.hyper({}, parent).to_dict()["base"] == "old/place"
    assert qwen.hyper({"base": "new/place"}, parent).to_dict()["base"] == "new/place"
    qwen.refuse({"base": "new/place"}, parent)
