"""Which changes of the code make a pipeline's models other models."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from include import provenance
from include.settings import INCLUDE


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], set[str]]:
    """Change a file of a copy of include/; gives the pipelines whose digest is another one after that."""
    copy = tmp_path / "include"
    shutil.copytree(INCLUDE, copy, ignore=shutil.ignore_patterns("*.png", "*.csv", "__pycache__"))
    monkeypatch.setattr(provenance, "INCLUDE", copy)

    def digests() -> dict[str, str]:
        return {pipeline: provenance.code_digest.__wrapped__(pipeline) for pipeline in ("possum", "churn")}

    def change(name: str) -> set[str]:
        before = digests()
        with (copy / name).open("a") as file:
            file.write("\n# changed\n" if name.endswith(".py") else "\n-- changed\n")
        return {pipeline for pipeline, digest in digests().items() if digest != before[pipeline]}

    return change


@pytest.mark.parametrize(
    ("name", "pipelines"),
    [
        ("possum/features.py", {"possum"}),
        ("churn/model.py", {"churn"}),
        ("churn/left_out.sql", {"churn"}),
        ("mlflow_tracking.py", {"possum"}),
        ("wandb_tracking/runs.py", {"churn"}),
        ("wandb_tracking/core_log.py", {"churn"}),  # which only another module of its package imports
        ("servers/mlflow.py", {"possum"}),
        ("csv_reader.py", {"possum", "churn"}),
        ("holdout.py", {"possum", "churn"}),
        ("settings.py", {"possum", "churn"}),
        ("errors.py", {"possum", "churn"}),  # which only what they import imports
        ("doctor.py", set()),
        ("draw_opossum.py", set()),
        ("notifications.py", set()),
    ],
)
def test_a_change_counts_for_the_pipelines_that_the_code_belongs_to(changed, name, pipelines):
    assert changed(name) == pipelines


def test_the_name_of_a_file_counts(changed, tmp_path):
    before = provenance.code_digest.__wrapped__("possum")
    (tmp_path / "include/possum/model.py").rename(tmp_path / "include/possum/another.py")
    assert provenance.code_digest.__wrapped__("possum") != before


def test_a_pipeline_without_code_is_refused():
    with pytest.raises(ValueError, match="no code in include/opossum"):
        provenance.code_digest("opossum")
