"""All pipelines on two Celery workers that share no disk and no network, and one of them is killed at work."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from local_stack.config import CELERY_WORKERS, PROJECT, search_path
from local_stack.worker import HIDDEN, namespaces
from tests.integration.resilience.breaking import database, kill_service, pid_of, tries
from tests.support.local_stack import RunningStack, await_that, services, short_folder
from tests.support.possum_runs import mlflow_runs, versions_of_run

DAGS = ("feature_eng", "train", "predict", "customer_analytics")
TRAINING = (
    "SELECT hostname FROM task_instance WHERE task_id = 'train_model' AND run_id = %s AND state = 'running' FOR UPDATE"
)


@pytest.fixture(scope="module")
def celery() -> Iterator[RunningStack]:
    """A stack with two workers, on which `make demo EXECUTOR=celery` has run."""
    if not shutil.which("redis-server", path=search_path()):
        pytest.skip(
            "needs redis-server, of which there is no wheel for this machine (Debian: apt install redis-server)"
        )
    stack = RunningStack(short_folder())
    try:
        done = stack.command("demo", EXECUTOR="celery")
        assert done.returncode == 0, done.stdout
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(stack.home)


@pytest.fixture(scope="module")
def inside(celery) -> dict[str, int]:
    """A process in each worker's namespaces."""
    if not namespaces():
        pytest.skip("no namespaces here: the workers have folders of their own, and the machine's network")
    return {
        name: services.psutil.Process(pid_of(celery, name)).children(recursive=True)[-1].pid for name in CELERY_WORKERS
    }


def test_both_workers_had_tasks_of_each_pipeline(celery):
    for dag_id in ("feature_eng", "predict", "customer_analytics"):
        hosts = {host for (host,) in celery.query("SELECT hostname FROM task_instance WHERE dag_id = %s", dag_id)}
        assert len(hosts - {""}) == len(CELERY_WORKERS), dag_id


def test_each_worker_has_a_network_of_its_own(inside):
    for kind in ("net", "mnt", "pid", "uts"):
        assert len({Path(f"/proc/{pid}/ns/{kind}").readlink() for pid in (*inside.values(), "self")}) == 3


def test_worker_sees_its_own_folder_only(celery, inside):
    for name, pid in inside.items():
        root = Path(f"/proc/{pid}/root")
        assert [path.name for path in (root / celery.home.relative_to("/")).iterdir()] == ["workers"]
        assert [path.name for path in (root / celery.home.relative_to("/") / "workers").iterdir()] == [name]
        for folder in HIDDEN:
            assert list((root / PROJECT.relative_to("/") / folder).iterdir()) == []


def test_logs_are_read_from_the_object_store(celery):
    (run_id,) = celery.query("SELECT run_id FROM dag_run WHERE dag_id = 'customer_analytics'")[0]
    assert "rows in table tmp_astro.pred_churn" in celery.airflow.task_log("customer_analytics", run_id, "predict")


def test_plot_is_where_everybody_finds_it(celery):
    (run_id,) = celery.query("SELECT run_id FROM dag_run WHERE dag_id = 'predict'")[0]
    plot = celery.airflow.xcom("predict", run_id, "plot_predictions")
    assert celery.object(plot["uri"]).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def killed(celery) -> tuple[str, str]:
    """A train run of which the worker was killed in the middle of train_model; its id, and the worker."""
    # other hyper-parameters: a model of its own to train
    run_id = celery.airflow.trigger_with("train", hyper_parameters={"alphas": [0.5, 5.0]})
    await_that(lambda: mlflow_runs(celery, f"train/{run_id}/train_model"), every=0.05)
    with closing(database(celery)) as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")  # the task cannot end before this does
        cursor.execute(TRAINING, [run_id])
        (host,) = cursor.fetchone() or pytest.fail("train_model has ended before its worker could be killed")
        name = next(each for each in CELERY_WORKERS if each == host or not namespaces())
        kill_service(celery, name)
        cursor.execute("COMMIT")
    celery.airflow.wait_for_success("train", run_id)
    return run_id, name


def test_run_goes_on_where_its_worker_is_killed(celery, inside, killed):
    run_id, _ = killed
    assert tries(celery, "train", run_id)["train_model"] == 2


def test_killed_worker_leaves_one_run_and_one_version(celery, killed):
    run_id, _ = killed
    (run,) = mlflow_runs(celery, f"train/{run_id}/train_model")
    assert run.info.status == "FINISHED"
    assert len(versions_of_run(celery, run.info.run_id)) == 1


def test_killed_worker_is_started_again(celery, killed):
    _, name = killed
    await_that(lambda: services.supervisor(celery.stack).getProcessInfo(name)["statename"] == "RUNNING")
