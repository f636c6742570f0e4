"""The churn pipeline's runs, made once by the real scheduler; the tests read what came of them.

The fixtures build on one another, because each run finds the champion that the former ones have left: ``first``,
``together``, ``others``, and only then runs on bad input, ``foreign``, and, with the DAG ``paused``, those in another process.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from include.settings import INCLUDE, settings

if TYPE_CHECKING:
    from tests.integration.churn.runs import Churn, ChurnRun
    from tests.integration.churn.shop import Shop
    from tests.support.local_stack import RunningStack

SHIPPED = INCLUDE / settings.churn.data_dir
OTHERS: dict[str, Any] = {
    "source": "s3://churn-incoming/others",
    "score_only": True,
    "predictions_table": "pred_others",
}
WORSE = {
    "min_samples_leaf": 8
}  # hyper-parameters with which the shipped data give a model that is worse than the default


@pytest.fixture(scope="session")
def churn(stack: "RunningStack") -> "Churn":
    """The DAG on the session's stack, unpaused."""
    from tests.integration.churn.runs import Churn

    found = Churn(stack)
    stack.airflow.unpause("customer_analytics")
    return found


@pytest.fixture(scope="session")
def shipped() -> Callable[[], dict[str, pd.DataFrame]]:
    """The shipped tables as text, to be changed."""
    return lambda: {path.stem: pd.read_csv(path, dtype=str, keep_default_na=False) for path in SHIPPED.glob("*.csv")}


@pytest.fixture(scope="session")
def first(churn: "Churn") -> "ChurnRun":
    """The first run, on the shipped data."""
    return churn.run()


@pytest.fixture(scope="session")
def at_first(churn: "Churn", first: "ChurnRun") -> dict[str, Any]:
    """What there is after the first run, before any other."""
    return churn.snapshot()


@pytest.fixture(scope="session")
def together(churn: "Churn", at_first: dict[str, Any]) -> "tuple[ChurnRun, ChurnRun]":
    """Two runs that are triggered at once: the same again, and a worse model."""
    again, worse = churn.trigger(), churn.trigger(hyper_parameters=WORSE)
    return churn.wait(again), churn.wait(worse)


@pytest.fixture(scope="session")
def again(together: "tuple[ChurnRun, ChurnRun]") -> "ChurnRun":
    return together[0]


@pytest.fixture(scope="session")
def worse(together: "tuple[ChurnRun, ChurnRun]") -> "ChurnRun":
    return together[1]


@pytest.fixture(scope="session")
def others(churn: "Churn", worse: "ChurnRun", tmp_path_factory: pytest.TempPathFactory) -> "ChurnRun":
    """Other customers, who pay twenty times as much, scored with the champion; there are no files on subscriptions."""
    from include.churn.generate import write_tables

    folder = tmp_path_factory.mktemp("others")
    write_tables(200, 11, folder)
    payments = pd.read_csv(folder / "payments.csv")
    payments.assign(amount=payments["amount"] * 20).to_csv(folder / "payments.csv", index=False)
    names = ("customers", "orders", "payments")
    churn.put_folder("others", {name: (folder / f"{name}.csv").read_bytes() for name in names})
    return churn.run(**OTHERS)


@pytest.fixture(scope="session")
def at_last(churn: "Churn", others: "ChurnRun") -> dict[str, Any]:
    """What there is after all these runs."""
    return churn.snapshot()


@pytest.fixture(scope="session")
def foreign(churn: "Churn", at_last: dict[str, Any], shipped: Callable[[], dict[str, pd.DataFrame]]) -> "ChurnRun":
    """A run on another shop with the same ids, in which nothing tells who leaves: the subscriptions belong to others."""
    tables = shipped()
    ids = tables["customers"]["customer_id"]
    others = dict(zip(ids, np.random.default_rng(6).permutation(ids), strict=True))
    periods = tables["subscription_periods"]
    tables["subscription_periods"] = periods.assign(customer_id=periods["customer_id"].map(others))
    return churn.run("failed", source=churn.put_folder("foreign", tables))


@pytest.fixture(scope="session")
def paused(churn: "Churn", at_last: dict[str, Any]) -> Iterator["Churn"]:
    """The DAG left alone by the scheduler, after all the runs above, so that another process can run it."""
    churn.pause(True)
    yield churn
    churn.pause(False)


@pytest.fixture
def shop(
    stack_connections: "RunningStack",
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> "Shop":
    """A shop without any model, for tests that call what the tasks call, in this process and offline."""
    from include.churn import champion, model_folder, records, tracking
    from include.object_store import object_path
    from include.settings import ChurnSettings, Settings
    from tests.integration.churn.shop import Shop, make_customers

    name = f"gate-{abs(hash(request.node.nodeid)):x}"
    own = Settings(churn=ChurnSettings(model_bucket="churn-gate", artifact_name=name))
    for module in (records, champion, tracking, model_folder):
        monkeypatch.setattr(module, "settings", own)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    buckets = [bucket["Name"] for bucket in stack_connections.s3.list_buckets()["Buckets"]]
    if "churn-gate" not in buckets:
        stack_connections.s3.create_bucket(Bucket="churn-gate")
    object_path(champion.champion_uri()).exists()  # Airflow sets up its logging, so that caplog can do so after it
    caplog.set_level(logging.INFO)
    return Shop(stack_connections.s3, make_customers(600), records.churn_folder())


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are made without what takes long and is not looked at here."""
    from include.churn import model

    measured = {"cv_roc_auc_mean": 0.5, "cv_roc_auc_std": 0.1, "cv_parts": 5.0}
    monkeypatch.setattr(model, "cross_validate", lambda *_, **__: dict(measured))
    monkeypatch.setattr("include.churn.model_folder.draw_plots", lambda *_: {"roc": b"picture", "curve": b"picture 2"})
    monkeypatch.setattr("include.churn.tracking.log_images", lambda *_: None)
    monkeypatch.setattr("include.churn.tracking.render_report", lambda *_: "<html>")
