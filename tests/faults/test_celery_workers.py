"""All pipelines on two Celery workers that share no disk and no network, and one of them is killed at work."""

import shutil
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from local_stack.config import CELERY_WORKERS, LOG_BUCKET, PROJECT, search_path
from local_stack.worker import HIDDEN, namespaces
from tests.support.breaking import Hold, kill_service, pid_of, tries
from tests.support.local_stack import RUN_TIMEOUT, RunningStack, await_that, services, short_folder
from tests.support.possum_runs import mlflow_runs, versions_of_run
from tests.support.secrets_search import command_line_texts, database_texts, file_texts, object_texts, search

DAGS = ("feature_eng", "train", "predict", "customer_analytics")
TRAINING = ("train", "train_model")
HOST = "SELECT hostname FROM task_instance WHERE task_id = 'train_model' AND run_id = %s"
SUCCEEDED = "SELECT dag_id, count(*) FROM dag_run WHERE state = 'success' GROUP BY dag_id"


@pytest.fixture(scope="module")
def celery() -> Iterator[RunningStack]:
    """A stack with two workers, on which `make demo EXECUTOR=celery` has run."""
    if not shutil.which("redis-server", path=search_path()):
        pytest.skip(
            "needs redis-server, of which there is no wheel for this machine (Debian: apt install redis-server)"
        )
    stack = RunningStack(short_folder())
    try:
        done = stack.command("demo", LOCAL_STACK_EXECUTOR="celery")
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


def test_both_workers_had_tasks(celery, inside):
    hosts = {host for (host,) in celery.query("SELECT DISTINCT hostname FROM task_instance WHERE hostname <> ''")}
    assert hosts == set(CELERY_WORKERS)


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


def test_no_secret_lies_where_somebody_could_read_it(celery):
    """Redis' password among them."""
    workers = [file_texts(celery.stack.worker_home(name) / "logs") for name in CELERY_WORKERS]
    texts = [database_texts(celery, "airflow"), object_texts(celery), file_texts(celery.stack.logs), *workers]
    places, found = search(celery, chain(*texts, command_line_texts(celery)))
    assert found == set()
    assert {"xcom", "celery_taskmeta"} <= places
    assert any(place.startswith(f"s3://{LOG_BUCKET}/dag_id=customer_analytics/") for place in places)
    assert any("redis-server" in place for place in places)


def test_second_demo_runs_the_pipelines_again_and_starts_no_service_anew(celery):
    def pids() -> dict[str, int]:
        return {name: pid_of(celery, name) for name in celery.stack.programs}

    services_before, runs_before = pids(), dict(celery.query(SUCCEEDED))
    done = celery.command("demo")
    assert done.returncode == 0, done.stdout
    assert pids() == services_before
    assert dict(celery.query(SUCCEEDED)) == {dag_id: 1 + runs_before[dag_id] for dag_id in DAGS}


@pytest.fixture(scope="module")
def killed(celery) -> tuple[str, str]:
    """A train run of which the worker was killed in the middle of train_model; its id, and the worker."""
    with Hold(celery, [TRAINING]) as hold:  # so that it cannot end before
        # other hyper-parameters: a model of its own to train
        run_id = celery.airflow.trigger_with("train", hyper_parameters={"alphas": [0.5, 5.0]})
        await_that(lambda: mlflow_runs(celery, f"train/{run_id}/train_model"), seconds=RUN_TIMEOUT, every=0.05)
        ((host,),) = celery.query(HOST, run_id)
        name = next(each for each in CELERY_WORKERS if each == host or not namespaces())
        kill_service(celery, name)
        for held in hold.held():
            hold.forget(held)
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
