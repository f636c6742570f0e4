"""Kill a task at each write to a W&B server, with a key: ``python kills_online.py train|judge|predict``.

Each try is a process of its own, as a task's is (wandb cannot begin again in a process that it has left). The line in the output
that begins with RESULT has what the task has written with, and what a retry has left otherwise, as JSON.
"""

import copy
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any
from unittest import mock

import boto3
import s3fs  # noqa: F401 (for all children at once)
import wandb  # noqa: F401

from include.churn import champion as gate
from include.churn import model, model_folder, records, tracking
from include.settings import settings
from include.wandb_tracking.target import run_id_for
from tests.fakes.wandb_server import KEY, FakeWandb
from tests.integration.churn.each_write import churn_writes, differences
from tests.integration.churn.shop import DAG, RUN, Shop, make_customers

FEATURES = make_customers(200)
QUICK = {"cv_roc_auc_mean": 0.5, "cv_roc_auc_std": 0.1, "cv_parts": 5.0}


def run(function: Callable[[], Any]) -> Any:
    """Call it in a child process, and return what it returns; None where it was killed."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    if child := os.fork():
        os.close(writer)
        with os.fdopen(reader) as answer:
            said = answer.read()
        os.waitpid(child, 0)
        return json.loads(said) if said else None
    try:
        os.write(writer, json.dumps(function()).encode())
    except BaseException:  # an error is told by its traceback and by the answer that is missing
        traceback.print_exc()
    finally:
        os._exit(0)


def train(dag_run: str, **hyper_parameters: int) -> dict[str, Any]:
    return tracking.train(FEATURES, dag_run, hyper_parameters, None, {}, dag_id=DAG)


def judge(trained: dict[str, Any], dag_run: str) -> Any:
    decision, handed_over = gate.judge(FEATURES, trained, dag_run)
    assert handed_over
    return decision.outcome, handed_over.dump()


def predict(handed_over: dict[str, Any]) -> dict[str, Any]:
    return tracking.predict(FEATURES, handed_over, RUN, "pred_any", dag_id=DAG)[1]


def kill_at_each_write(name: str, shop: Shop, server: FakeWandb) -> tuple[list[str], dict[str, Any]]:
    """Another model is the champion when the task begins; the writes before the first one to the server are tested offline."""
    run(lambda: judge(train("before", n_estimators=3, max_depth=1), "before"))
    trained: Any = run(lambda: train(RUN, n_estimators=40)) if name != "train" else None
    handed_over: Any = run(lambda: judge(trained, RUN)[1]) if name == "predict" else None
    task = {
        "train": lambda: train(RUN, n_estimators=40),
        "judge": lambda: judge(trained, RUN),
        "predict": lambda: predict(handed_over),
    }[name]
    kept = ("_runs", "_artifacts", "_blobs")
    start, server_start = shop.objects(), copy.deepcopy({part: getattr(server, part) for part in kept})

    def reset() -> None:
        shop.put_back(start)
        for part, content in copy.deepcopy(server_start).items():
            setattr(server, part, content)

    def state() -> Any:
        tracked = server.run(run_id_for(DAG, RUN))
        history = [{key: value for key, value in row.items() if not key.startswith("_")} for row in tracked.history]
        summary = {key: value for key, value in tracked.summary.items() if not key.startswith("_")}
        versions = [
            (each.version, sorted(each.aliases), each.metadata)
            for each in server.versions(settings.churn.artifact_name)
        ]
        return shop.objects(), tracked.state, tracked.tags, summary, history, sorted(tracked.files), versions

    first = {"train": 8, "judge": 4, "predict": 4}[name]
    return differences(task, churn_writes(), state=state, reset=reset, first=first, run=run)


def main() -> None:
    """Print what has come of the task that is named."""
    connection = json.loads(os.environ["AIRFLOW_CONN_AWS_DEFAULT"])
    s3 = boto3.client(
        "s3",
        endpoint_url=connection["extra"]["endpoint_url"],
        aws_access_key_id=connection["login"],
        aws_secret_access_key=connection["password"],
        region_name="us-east-1",
    )
    shop = Shop(s3, FEATURES, records.churn_folder())
    shop.put_back({})
    pictures = {"roc": model_folder.plots.figure_to_png(model_folder.plots._make_figure("")[0])}
    with (
        FakeWandb(KEY) as server,
        mock.patch.object(model, "cross_validate", side_effect=lambda *_, **__: dict(QUICK)),
        mock.patch.object(model_folder, "draw_plots", return_value=pictures),
        mock.patch.object(tracking, "render_report", return_value="<html>"),
    ):
        os.environ["WANDB_BASE_URL"] = server.url
        names, found = kill_at_each_write(sys.argv[1], shop, server)
        assert server.problems == []
    print("\nRESULT", json.dumps({"names": names, "differences": found}, default=repr))  # noqa: T201


if __name__ == "__main__":
    main()
