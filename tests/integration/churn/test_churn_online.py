"""customer_analytics with a key: the real W&B client in real Airflow tasks, against the fake server.

The stack's scheduler has no key, so another process runs the DAG with Airflow's own ``dag.test``, on the stack's database,
warehouse and object store. Whatever happens there, the key must not be in any file of the stack, nor in any row of its
databases, nor in any object (``server`` looks).
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from sklearn.ensemble import RandomForestClassifier
from tenacity import Retrying, retry_if_not_result, stop_after_delay, wait_fixed

from include.churn.model import DEFAULT_HYPER_PARAMETERS
from include.object_store import sha256_hex
from include.run_key import run_key
from include.settings import settings
from include.wandb_tracking.target import run_id_for
from local_stack.config import DATABASES
from tests.fakes.wandb_server import KEY, SECRETS, FakeWandb, files_with_key
from tests.integration.churn.conftest import OTHERS, SHIPPED, WORSE
from tests.support.secrets_search import database_texts, object_texts

OBJECT_UI_URL = "http://console/{bucket}/{key}"
BETTER = {"n_estimators": 60}
PROGRAM = Path(__file__).with_name("airflow_online.py")
GATE = "promote_model.compare_with_champion"


class Process:
    """Another process that runs the DAG; what it says is in ``log``."""

    def __init__(self, stack, folder, runs, **environ):
        self.log_file = folder / f"{len(list(folder.glob('*.log')))}.log"
        with self.log_file.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, PROGRAM, json.dumps(runs)],
                env=stack.environment | {"HOME": str(folder), **environ},
                cwd=stack.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def log(self):
        return self.log_file.read_text()

    def wait(self):
        """The runs, as the process has printed them."""
        assert self._popen.wait(300) == 0, self.log[-5000:]
        results = [line.removeprefix("RESULT ") for line in self.log.splitlines() if line.startswith("RESULT ")]
        return [SimpleNamespace(**json.loads(result)) for result in results]

    def wait_for(self, pattern):
        """Wait until its log has the pattern, and kill it."""
        Retrying(stop=stop_after_delay(120), wait=wait_fixed(0.2), retry=retry_if_not_result(bool))(
            lambda: re.search(pattern, self.log) or self._popen.poll() is not None
        )
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        assert re.search(pattern, self.log), self.log[-5000:]


def databases_and_buckets(stack):
    return chain(object_texts(stack), *(database_texts(stack, database) for database in DATABASES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("online")


@pytest.fixture(scope="module")
def server(paused, stack, folder) -> Iterator[FakeWandb]:
    with FakeWandb(KEY) as fake:
        yield fake
    assert fake.problems == []
    assert files_with_key(folder) == []
    assert files_with_key(stack.home) == []
    texts = databases_and_buckets(stack)
    assert [place for place, text in texts if any(secret in text for secret in SECRETS)] == []


@pytest.fixture(scope="module")
def online(server):
    return {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.url, "PIPELINES_OBJECT_UI_URL": OBJECT_UI_URL}


@pytest.fixture(scope="module")
def trip(paused, stack, server, online, folder):
    """The shipped data again, then a better model, then a worse one, then other customers; and what there was after it."""
    process = Process(stack, folder, [{}, {"hyper_parameters": BETTER}, {"hyper_parameters": WORSE}, OTHERS], **online)
    same, better, worse, others = process.wait()
    assert {run.state for run in (same, better, worse, others)} == {"success"}, process.log[-5000:]
    return SimpleNamespace(
        log=process.log,
        same=same,
        better=better,
        worse=worse,
        others=others,
        champion=json.loads(paused.object("champion.json")),
        model_folder=stack.airflow.xcom("customer_analytics", same.id, "train")["model_uri"].rpartition("/")[0],
        predictions=paused.predictions("pred_churn"),
    )


def tracked(server, run):
    return server.run(run_id_for("customer_analytics", run.id))


def page(bucket, key):
    return OBJECT_UI_URL.format(bucket=bucket, key=key.replace("/", "%2F"))


def test_the_search_for_the_key_finds_what_is_there(stack, trip, folder):
    """With a word that is there: in XComs, in the table of predictions, in an object; and with a file."""
    found = {place for place, text in databases_and_buckets(stack) if b"churn_classifier:v1" in text}
    champion = f"s3://{settings.churn.model_bucket}/{settings.churn.artifact_name}/champion.json"
    assert {"xcom", "pred_churn"} <= found
    assert champion in {place for place, text in object_texts(stack) if b'"version": "v1"' in text}
    (folder / "leak").write_bytes(b"some " + SECRETS[1] + b" words")
    assert files_with_key(folder) == [folder / "leak"]
    (folder / "leak").unlink()


def test_each_dag_run_is_one_run_with_train_gate_and_predict_in_it(server, trip):
    assert len(server.runs) == 4
    for run in (trip.same, trip.better, trip.worse):
        found = tracked(server, run)
        assert (found.state, found.job_type, found.project) == ("finished", "train", settings.wandb_project)
        assert found.config["features_sha256"]
        assert found.summary["holdout_brier"] < 1
        assert found.summary["predictions/rows"] == 100
        assert found.summary["drift/detected"] == 0
        assert b"<html" in found.files["drift_report.html"]
        assert sum(name.endswith(".png") for name in found.files) == 6


def test_the_config_has_all_that_made_the_model(server, trip):
    for run, hyper_parameters in ((trip.same, {}), (trip.better, BETTER), (trip.worse, WORSE)):
        config = tracked(server, run).config
        wanted = DEFAULT_HYPER_PARAMETERS | hyper_parameters
        assert {name: config[name] for name in wanted} == wanted
        assert set(RandomForestClassifier().get_params()) - config.keys() == set()
        assert (config["rows_training"], config["rows_holdout"]) == (64, 36)
        assert config["as_of_date"] == "latest date in the data"
        assert config["dag_run"] == run.id


def test_the_config_has_the_digests_of_the_files_that_the_run_has_loaded(server, trip):
    digests = {f"{path.stem}_csv_sha256": sha256_hex(path.read_bytes()) for path in SHIPPED.glob("*.csv")}
    assert len(digests) == 5
    config = tracked(server, trip.same).config
    assert {name: value for name, value in config.items() if name.endswith("_csv_sha256")} == digests
    # here the tasks that load were marked as successful
    assert not [name for name in tracked(server, trip.better).config if name.endswith("_csv_sha256")]


def test_each_task_that_tracks_or_writes_objects_has_recorded_its_links(server, stack, trip):
    links = stack.query(
        "SELECT task_id, map_index, key, value FROM xcom WHERE run_id = %s AND key LIKE 'link.%%'", trip.same.id
    )
    found = {(task, index, key): value for task, index, key, value in links}
    run = f"{server.url}/acme/{settings.wandb_project}/runs/{run_id_for('customer_analytics', trip.same.id)}"
    folder = trip.model_folder.removeprefix(f"s3://{settings.churn.model_bucket}/") + "/"
    report = f"{settings.churn.artifact_name}/drift/{run_key(trip.same.id)}/report.html"
    assert found == {
        ("create_buckets_if_not_exists", 0, "link.objects"): page(settings.xcom_bucket, ""),
        ("create_buckets_if_not_exists", 1, "link.objects"): page(settings.churn.model_bucket, ""),
        ("train", -1, "link.objects"): page(settings.churn.model_bucket, folder),
        ("train", -1, "link.wandb_run"): run,
        (GATE, -1, "link.objects"): page(settings.churn.model_bucket, folder),
        (GATE, -1, "link.wandb_run"): run,
        ("predict", -1, "link.objects"): page(settings.churn.model_bucket, report),
        ("predict", -1, "link.wandb_run"): run,
    }


def test_the_gates_decision_is_in_the_run(server, trip):
    summaries = [tracked(server, run).summary for run in (trip.same, trip.better, trip.worse)]
    assert [each["gate/outcome"] for each in summaries] == ["champion_already", "better", "worse"]
    assert [each["gate/decision"] for each in summaries] == ["promoted", "promoted", "rejected"]
    assert [each.get("gate/holdout_rows") for each in summaries] == [None, 36, 36]
    assert summaries[2]["gate/newcomer_loss"] > summaries[2]["gate/champion_loss"]
    assert summaries[2]["gate/champion_before"] == "churn_classifier:v1"
    assert trip.worse.tasks["promote_model.champion_stays"] == "success"


def test_alias_champion_moves_with_the_champion_and_latest_with_the_newest(server, trip):
    v0, v1, v2 = server.versions("churn_classifier")
    assert (v0.aliases, v1.aliases, v2.aliases) == ([], ["champion"], ["latest"])
    assert trip.champion["reference"]["version"] == "v1"
    assert trip.champion["server"] == server.url


def test_predict_uses_the_champions_version_and_not_the_newest(server, trip):
    v0, v1, v2 = server.versions("churn_classifier")
    names = {run.id: tracked(server, run).name for run in (trip.same, trip.better, trip.worse, trip.others)}
    assert v0.used_by == [names[trip.same.id]]
    assert v1.used_by == [names[trip.better.id], names[trip.worse.id], names[trip.others.id]]
    assert v2.used_by == []
    assert set(trip.predictions["model_version"]) == {"churn_classifier:v1"}


def test_each_scoring_downloads_the_model_from_the_server(server, trip):
    assert server.downloads.count("model.skops") == 4
    assert "churn_classifier:v1 taken from Weights & Biases" in trip.log


def test_the_artifact_is_the_model_with_its_card_and_says_what_it_was_made_from(server, trip):
    _, v1, _ = server.versions("churn_classifier")
    assert sorted(v1.files) == ["model.skops", "model_card.md"]
    assert b"60 trees" in server.content(v1, "model_card.md")
    assert v1.metadata["sha256"] == trip.champion["trained"]["model"]["sha256"]
    assert {"features_sha256", "code_sha256", "lock_sha256", "model_uri", "holdout_brier"} <= v1.metadata.keys()


def test_the_log_has_the_link_of_the_run_in_each_task(server, trip):
    link = f"{server.url}/acme/{settings.wandb_project}/runs/{run_id_for('customer_analytics', trip.same.id)}"
    assert trip.log.count(f"W&B run: {link}") == 3
    assert f"online at {server.url}, because WANDB_API_KEY is set" in trip.log


def test_other_customers_have_a_run_of_their_own_that_is_marked_as_drifted(server, trip):
    found = tracked(server, trip.others)
    assert (found.job_type, found.state) == ("predict", "finished")
    assert found.summary["predictions/rows"] == 200
    assert found.summary["drift/detected"] == 1
    assert "drift" in found.tags
    assert trip.others.tasks["train"] == "skipped"
    assert trip.others.tasks["report_drift"] == "success"


def test_a_wrong_key_fails_at_once_says_so_and_is_not_shown(paused, stack, folder, online, trip):
    process = Process(stack, folder, [{}], **online | {"WANDB_API_KEY": "f" * 40})
    (run,) = process.wait()

    assert (run.state, run.tasks["train"]) == ("failed", "failed")
    assert "Check WANDB_API_KEY (get one from that server's user settings" in process.log
    assert "up_for_retry" not in process.log.lower()
    assert "f" * 40 not in process.log
    assert paused.predictions("pred_churn").equals(trip.predictions)


@pytest.mark.faults
def test_a_server_that_is_away_is_worth_a_retry(stack, folder, online, trip):
    process = Process(stack, folder, [{}], **online | {"WANDB_BASE_URL": "http://127.0.0.1:9"})

    process.wait_for(r"customer_analytics\.train \S+ \[up_for_retry\]")

    assert "http://127.0.0.1:9 could not be reached or did not answer in time (starting the run)" in process.log


def test_a_run_recorded_offline_is_uploaded_as_one_run_by_the_commands_of_its_logs(first, folder):
    with FakeWandb(KEY) as fake:
        environ = {
            "WANDB_API_KEY": KEY,
            "WANDB_BASE_URL": fake.url,
            "HOME": str(folder),
            "WANDB_ERROR_REPORTING": "false",
        }
        for task in ("train", GATE, "predict"):
            command = first.log(task).partition("To upload it")[2].partition(": ")[2].splitlines()[0]
            done = subprocess.run(
                [str(Path(sys.executable).parent / "wandb"), *shlex.split(command)[1:]],
                env=environ,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        (run,) = fake.runs
        assert run.summary["gate/outcome"] == "first_model"
        assert run.summary["predictions/rows"] == 100
        assert run.summary["holdout_roc_auc"] == pytest.approx(first.xcom("train")["metrics"]["holdout_roc_auc"])
        assert "drift_report.html" in run.files
        (version,) = fake.versions("churn_classifier")
        assert version.metadata["sha256"] == first.xcom("train")["sha256"]
    assert fake.problems == []
