import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from include.possum import model
from include.possum.features import engineer_features, fit_transformer
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE
from tests.helpers.possum_offline import OfflinePossums

SHIPPED = INCLUDE / "possum.csv"


@pytest.fixture(scope="session")
def animals() -> pd.DataFrame:
    """The 104 shipped animals."""
    return read_animals(SHIPPED, "possum.csv")


@pytest.fixture(scope="session")
def complete(animals) -> pd.DataFrame:
    """The 101 of them without a missing value."""
    return complete_rows(animals)[0]


@pytest.fixture(scope="session")
def features(complete) -> pd.DataFrame:
    return engineer_features(fit_transformer(complete), complete)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of an MLflow store with nothing in it, to be copied: making its tables takes seconds."""
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture(scope="module")
def experiment(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an experiment in an MLflow store of its own, which MLflow's client uses."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_store, folder)
    with pytest.MonkeyPatch.context() as patch:
        # not mlflow.set_tracking_uri, which would win over the variable in all later tests
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        yield mlflow.MlflowClient().create_experiment("possum", artifact_location=f"{folder}/artifacts")


@pytest.fixture(scope="module")
def possums(experiment: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflinePossums]:
    """The pipeline's steps in the module's MLflow store, without the cross-validation, which takes longest."""
    figures = [
        f"cv_{name}_{kind}" for name in ("r2", "rmse_cm", "mae_cm", "baseline_rmse_cm") for kind in ("mean", "std")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "cross_validate", lambda *_, **__: dict.fromkeys([*figures, "cv_repeats"], 1.0))
        patch.setattr(model, "validate_by_site", lambda *_: {})
        yield OfflinePossums(tmp_path_factory.mktemp("possums"), patch)
