"""Each task of the churn pipeline that writes is killed at each of its writes, and tried again: it leaves what one undisturbed
try leaves, and the same record.

On the real object store and PostgreSQL, with the real W&B client: offline in this process, online in another one, which has the
fake server (kills_online.py).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.churn import champion as gate
from include.churn import tracking, warehouse
from include.churn.records import HandOver
from include.settings import settings
from include.wandb_tracking.runs import KEPT_FILE
from include.wandb_tracking.target import run_id_for
from tests.fakes.wandb_server import KEY
from tests.integration.churn.each_write import churn_writes, differences
from tests.integration.churn.shop import DAG, RUN, make_customers, of_another_shop

SMALL = {"n_estimators": 5}
GOOD = {"n_estimators": 40}
BAD = {"n_estimators": 1, "max_depth": 1, "max_features": 1}
TABLE = "pred_kills"
PROGRAM = Path(__file__).with_name("kills_online.py")


@pytest.fixture
def check(shop, stack_connections):
    """Kill a task at each of its writes; it must leave the same each time. Gives the names of what it writes with."""

    def state():
        names = [
            row[0] for row in warehouse_query("SELECT tablename FROM pg_tables WHERE tablename LIKE '%%pred_kills%%'")
        ]
        rows = {name: warehouse_query(f"SELECT * FROM {schema}.{name} ORDER BY 1") for name in names}
        return shop.objects(), summary(), rows

    def warehouse_query(sql):
        return stack_connections.query(sql, database="warehouse")

    schema = settings.churn.warehouse_schema
    targets = [*churn_writes(), (psycopg.Cursor, "execute"), (psycopg.Copy, "write")]

    def kill_at_each_write(task):
        start = shop.objects()

        def reset():
            shop.put_back(start)
            warehouse_query(f"DROP TABLE IF EXISTS {schema}.{TABLE}; SELECT 1")

        names, found = differences(task, targets, state=state, reset=reset)
        reset()
        assert found == {}
        return names

    return kill_at_each_write


def summary() -> dict[str, Any]:
    """What the folders of the DAG run's run in W&B say together, as uploading them would leave it."""
    found: dict[str, Any] = {}
    for path in sorted(Path(os.environ["WANDB_DIR"], run_id_for(DAG, RUN)).glob(f"*/*/{KEPT_FILE}")):
        found |= json.loads(path.read_text())["summary"]
    return {key: value for key, value in found.items() if not key.startswith("_")}


@pytest.mark.parametrize(
    "case",
    [
        "first_model",
        *(
            pytest.param(case, marks=pytest.mark.faults)
            for case in ("better", "worse", "champion_already", "worse_than_baseline")
        ),
    ],
)
def test_the_gate_decides_the_same_and_names_one_champion(shop, check, case):
    if case == "better":
        shop.judge(shop.publish({"n_estimators": 3, "max_depth": 1}), dag_run="before")
    elif case != "first_model":
        shop.judge(shop.publish(GOOD), dag_run="before")
    features = of_another_shop(shop.features) if case == "worse_than_baseline" else shop.features
    trained = shop.publish(BAD if case.startswith("worse") else GOOD, features)

    seen = []

    def judge():
        decision, handed_over = shop.judge(trained, features)
        promoted = case in ("first_model", "better")
        assert summary()["gate/outcome"] == case
        assert shop.champion()["dag_run"] == (RUN if promoted else "before")
        if case != "champion_already":
            assert shop.record(trained)["outcome"] == case
        seen.append(decision.outcome)
        return decision, handed_over

    check(judge)

    assert set(seen) == {case}


@pytest.mark.faults
def test_a_model_is_made_once(check, quick):
    few = make_customers(100)

    def train():
        trained = tracking.train(few, RUN, SMALL, None, {}, dag_id=DAG)
        return {key: value for key, value in trained.items() if key != "wandb_run"}  # each try has a folder of its own

    names = check(train)

    assert names.count("write_bytes") == 7


@pytest.mark.faults
def test_predictions_replace_the_former_ones_once(shop, check, quick):
    _, handed_over = shop.judge(shop.publish(GOOD))

    def score():
        predictions, drift = tracking.predict(shop.features, handed_over.dump(), RUN, TABLE, dag_id=DAG)
        warehouse.replace_predictions(predictions, TABLE)
        return drift

    assert "write" in check(score)


@pytest.mark.faults
def test_other_customers_are_scored_once(shop, check, quick):
    shop.judge(shop.publish(GOOD))
    others = shop.features.drop(columns="churned").assign(customer_lifetime_value=1.0)

    def score():
        handed_over = HandOver(champion=gate.champion_for_scoring()).dump()
        predictions, drift = tracking.predict(others, handed_over, RUN, TABLE, dag_id=DAG)
        warehouse.replace_predictions(predictions, TABLE)
        assert summary()["drift/detected"] == 1
        return drift

    check(score)


@pytest.mark.faults
@pytest.mark.parametrize("task", ["train", "judge", "predict"])
def test_the_record_on_a_server_is_the_same(shop, stack, tmp_path, task):
    environ = stack.environment | {
        "CHURN_MODEL_BUCKET": "churn-gate",
        "CHURN_ARTIFACT_NAME": f"kills-{task}",
        "WANDB_API_KEY": KEY,
        "WANDB_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, PROGRAM, task],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(done.stdout.partition("RESULT ")[2].splitlines()[0])
    assert result["differences"] == {}
    assert result["names"][-1] == ("write_bytes" if task == "judge" else "finish")  # champion.json is the last
