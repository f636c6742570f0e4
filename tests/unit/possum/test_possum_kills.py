"""Each step is killed at each of its writes and runs again: what is there then is what one undisturbed try leaves."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from include.mlflow_files import ADDED_PACKAGES, FILES_TAG
from include.model_requirements import add_requirements
from include.object_store import read_object
from include.possum import results
from include.possum.drift_check import check_batch
from include.possum.scoring import read_batch
from include.settings import settings
from tests.helpers.kills import kill_at, mlflow_writes, object_writes, writes
from tests.helpers.possum_offline import OfflinePossums, context

TARGETS = [*object_writes(), *mlflow_writes()]
OF_ONE_RUN = re.compile(r"m-[0-9a-f]{32}|[0-9a-f]{32}\b(?![0-9a-f])|model-[0-9a-f]{8}|run-\d+")


def nameless(value: str) -> str:
    """Without what no two runs have in common."""
    return OF_ONE_RUN.sub("...", value)


def tags_of(run: Any) -> dict[str, Any]:
    tags = {name: nameless(value) for name, value in run.data.tags.items() if name != FILES_TAG}
    files = json.loads(run.data.tags.get(FILES_TAG, "{}"))
    return tags | {FILES_TAG: sorted((nameless(folder), *sorted(names)) for folder, names in files.items())}


def artifacts_of(possums: OfflinePossums, run: Any) -> list[str]:
    folders = [None, "drift", "training", "plots"]
    found = [each for folder in folders for each in possums.client.list_artifacts(run.info.run_id, folder)]
    return sorted(each.path for each in found if not each.is_dir)


def left(possums: OfflinePossums) -> dict[str, Any]:
    """All that is to be seen in the experiment and the registered model."""
    client = possums.client
    versions = client.search_model_versions(f"name = '{possums.name}'")
    return {
        "runs": [
            (
                run.info.run_name,
                run.info.status,
                tags_of(run),
                run.data.metrics,
                run.data.params,
                artifacts_of(possums, run),
            )
            for run in client.search_runs([possums.experiment], order_by=["attributes.end_time"])
        ],
        "models": [(model.name, str(model.status)) for model in client.search_logged_models([possums.experiment])],
        "versions": [(each.version, tags(each.tags), each.description, each.aliases) for each in versions],
        "model": [
            (each.description and nameless(each.description), each.tags)
            for each in client.search_registered_models(f"name = '{possums.name}'")
        ],
        "champion": possums.champion(),
    }


def tags(of_version: dict[str, str]) -> dict[str, str]:
    return {name: nameless(value) for name, value in of_version.items()}


def differences(prepare: Callable[[], Any], step: Callable[[Any], Any], look: Callable[[Any], Any]) -> dict[str, Any]:
    """What a kill and a second try leave where that is not what one try leaves, by the write at which it was killed."""
    prepared = prepare()
    names = writes(lambda: step(prepared), TARGETS)
    assert names
    wanted = look(prepared)
    found = {}
    for n in range(1, len(names) + 2):
        prepared = prepare()
        after_the_last = n > len(names)
        with kill_at(min(n, len(names)), TARGETS, after=after_the_last):
            step(prepared)
        step(prepared)
        if (seen := look(prepared)) != wanted:
            found[f"{n} {names[min(n, len(names)) - 1]}"] = seen
    return found


@pytest.mark.faults
def test_build_features(possums, animals):
    def step(_: None) -> None:
        possums.feature_eng(animals, "r")

    assert differences(possums.begin_afresh, step, lambda _: left(possums)) == {}


@pytest.mark.faults
def test_train_model(possums, animals):
    reference = possums.feature_eng(animals)

    def step(_: None) -> None:
        possums.train(reference, "r")

    assert differences(possums.begin_afresh, step, lambda _: left(possums)) == {}


class TestCompareWithChampion:
    @pytest.fixture(scope="class")
    def trained(self, possums, animals) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a model was made of, and the model."""
        reference = possums.feature_eng(animals)
        return reference, possums.train(reference)

    def test_compare_with_champion(self, possums, trained):
        reference, model = trained

        def prepare() -> str:
            possums.begin_afresh()
            return possums.register(model)

        def look(version: str) -> dict[str, Any]:
            assert possums.tags(version)["gate.outcome"] == "first_model"
            path = possums.client.download_artifacts(model["run_id"], "model_card.md")
            return left(possums) | {"card": nameless(Path(path).read_text(encoding="utf-8"))}

        assert differences(prepare, lambda version: possums.judge(reference, version), look) == {}

    def test_alias_moves_last(self, possums, trained):
        reference, model = trained
        possums.begin_afresh()
        version = possums.register(model)

        assert writes(lambda: possums.judge(reference, version), TARGETS)[-1] == "set_registered_model_alias"


class TestPredict:
    @pytest.fixture(scope="class")
    def told(self, possums, animals) -> dict[str, Any]:
        possums.begin_afresh()
        return possums.whole_round(animals)

    @pytest.fixture
    def prepare(self, possums, told) -> Callable[[], dict[str, Any]]:
        """An experiment without runs but the model's, whose drift check and plot belong to it."""

        def prepare() -> dict[str, Any]:
            possums.begin_afresh()
            return told | {"experiment_id": possums.experiment}

        return prepare

    @pytest.mark.faults
    def test_check_drift(self, possums, told, prepare, monkeypatch):
        monkeypatch.setattr("include.possum.drift_check.render_report", lambda *_: "report")
        batch = read_batch(told, "")

        def step(model: dict[str, Any]) -> None:
            check_batch(context("predict", "r", "check_drift"), model, batch)

        assert differences(prepare, step, lambda _: left(possums)) == {}

    @pytest.mark.faults
    def test_plot_and_predictions(self, possums, told, prepare, monkeypatch):
        monkeypatch.setattr(results, "copy_atomically", lambda data, path: copies.append(data))
        table = pd.DataFrame({"case": range(4), "true_taill": 36.0, "predicted_taill": 37.0})
        table = table.assign(used_for_training=False, better_than_baseline=True)
        copies: list[bytes] = []

        def step(model: dict[str, Any]) -> None:
            results.publish_plot(table, f"file://{possums.folder}/{possums.name}.png", model, other_animals=None)
            results.save_predictions(table, f"file://{possums.folder}/{possums.name}.csv")

        def look(model: dict[str, Any]) -> tuple[Any, ...]:
            artifact = possums.client.download_artifacts(model["run_id"], f"plots/{settings.possum.plot_file_name}")
            objects = [read_object(f"file://{possums.folder}/{possums.name}.{kind}") for kind in ("png", "csv")]
            return Path(artifact).read_bytes(), *objects, copies[-1]

        assert differences(prepare, step, look) == {}

    @pytest.mark.faults
    def test_add_line_to_file(self, possums, told):
        files = {name: Path(told["model_uri"], name) for name in ("requirements.txt", "conda.yaml")}
        before = {name: path.read_text(encoding="utf-8") for name, path in files.items()}

        def prepare() -> None:
            for name, path in files.items():
                path.write_text(before[name])

        def look(_: None) -> dict[str, str]:
            return {name: path.read_text(encoding="utf-8") for name, path in files.items()}

        assert differences(prepare, lambda _: add_requirements(told["model_uri"], *ADDED_PACKAGES), look) == {}
