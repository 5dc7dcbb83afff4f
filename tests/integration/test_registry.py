"""The registry against a real MLflow server."""

import json
import time
import urllib.request
from pathlib import Path

import pytest
import tiny_bundle

from redpencil.bundle import Manifest, bundle_id
from redpencil.errors import NotFound, NotReady
from redpencil.gate import Latency, LineScore, judge
from redpencil.ids import new_id
from redpencil.reader import LineReader
from redpencil.registry import Registry


@pytest.fixture
def registry(mlflow_server) -> Registry:
    return Registry(mlflow_server.url)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    tiny_bundle.build(tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_registered_bundle_opens_with_mlflow_itself(registry: Registry, bundle: Path) -> None:
    import mlflow

    model = new_id("ocr")
    version = registry.register(model, bundle, {"snapshot": "s1", "bundle.sha256": bundle_id(bundle)})
    mlflow.set_tracking_uri(registry.url)
    opened = mlflow.onnx.load_model(f"models:/{model}/{version}")
    assert [i.name for i in opened.graph.input] == ["image"]
    info = mlflow.models.get_model_info(f"models:/{model}/{version}")
    assert info.signature.inputs.inputs[0].shape == (-1, 3, 108, -1)
    assert [(o.name, o.shape) for o in info.signature.outputs.inputs] == [
        ("indices", (-1, -1)),
        ("probabilities", (-1, -1)),
    ]
    reader, line = LineReader(bundle), tiny_bundle.paint("cab")
    read = mlflow.pyfunc.load_model(f"models:/{model}/{version}").predict(reader.tensor(line)[None])
    assert reader.text(read["indices"][0], read["probabilities"][0]).text == "cab"
    assert registry.tags(model, version)["snapshot"] == "s1"


def test_the_page_of_a_version_can_show_its_schema(registry: Registry, bundle: Path) -> None:
    model = new_id("ocr")
    version = registry.register(model, bundle, {})
    question = f"/model-versions/get-artifact?path=MLmodel&name={model}&version={version}"
    with urllib.request.urlopen(registry.url + question) as answer:
        assert b'"name": "image"' in answer.read()


def test_the_whole_bundle_lies_in_the_run_and_is_a_bundle_still(
    registry: Registry, bundle: Path, tmp_path: Path
) -> None:
    model = new_id("ocr")
    version = registry.register(model, bundle, {})
    run = registry.client.get_model_version(model, version).run_id
    fetched = Path(registry.client.download_artifacts(run, "bundle", str(tmp_path)))
    assert Manifest.load(fetched).alphabet == tiny_bundle.ALPHABET
    assert registry.client.get_run(run).info.status == "FINISHED"


def test_the_same_run_is_registered_once(registry: Registry, bundle: Path) -> None:
    model = new_id("ocr")
    run = registry.client.create_run(registry.experiment(model)).info.run_id
    first = registry.register(model, bundle, {"snapshot": "s1"}, run_id=run)
    again = registry.register(model, bundle, {"snapshot": "s1"}, run_id=run)
    other = registry.client.create_run(registry.experiment(model)).info.run_id
    assert again == first == "1"
    assert registry.register(model, bundle, {}, run_id=other) == "2"


def test_the_same_import_is_registered_once(registry: Registry, bundle: Path) -> None:
    model, tags = new_id("ocr"), {"bundle.sha256": bundle_id(bundle)}
    assert registry.register(model, bundle, tags) == registry.register(model, bundle, tags) == "1"


def test_an_alias_moves_and_goes(registry: Registry, bundle: Path) -> None:
    model = new_id("ocr")
    assert registry.alias(model, "champion") is None
    version = registry.register(model, bundle, {})
    assert registry.alias(model, "champion") is None
    registry.set_alias(model, "champion", version)
    assert registry.alias(model, "champion") == version
    registry.delete_alias(model, "champion")
    registry.delete_alias(model, "champion")
    assert registry.alias(model, "champion") is None


def test_a_verdict_is_read_in_the_version_s_tags_and_in_its_run(registry: Registry, bundle: Path) -> None:
    model = new_id("ocr")
    version = registry.register(model, bundle, {})
    lost = [LineScore(f"golden_{i}", 50, 5, 5, 0) for i in range(40)]
    learned = [LineScore("corr_1", 20, 0, 0, 3), LineScore("corr_2", 20, 2, 2, 0)]
    verdict = judge(
        holdout=[], trained=learned, golden=lost, latency=Latency(), candidate=version, champion="1"
    )
    registry.log_verdict(model, version, verdict)
    assert registry.tags(model, version)["gate.verdict"] == "failed"
    assert "it forgets what it could read" in registry.tags(model, version)["gate.reasons"]
    run = registry.client.get_model_version(model, version).run_id
    kept = json.loads(Path(registry.client.download_artifacts(run, "gate/verdict.json")).read_text("utf-8"))
    assert kept["items"] == {"corr_1": "fixed", "corr_2": "newly_broken"}
    report = Path(registry.client.download_artifacts(run, "gate/report.md")).read_text("utf-8")
    assert "it forgets what it could read" in report
    assert "corr_2" in report


def test_an_unknown_version_is_not_found(registry: Registry) -> None:
    with pytest.raises(NotFound):
        registry.tags("no-such-model", "7")


def test_a_server_that_is_down_is_named_at_once() -> None:
    nowhere = Registry("http://127.0.0.1:9")
    assert nowhere.client is not None  # what takes long is to import MLflow
    started = time.monotonic()
    with pytest.raises(NotReady, match=r"http://127\.0\.0\.1:9 does not answer"):
        nowhere.alias("ocr", "champion")
    assert time.monotonic() - started < 60
