"""The environments of run_prediction: built once for the same requirements, whole or not there, without a network."""

import logging
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from airflow.sdk.exceptions import AirflowException

from include import venv_prediction
from include.task_errors import hopeless
from include.venv_prediction import CachedVenvPredictOperator, cache_folder, ensure_environment

PACKAGE = "packaging"  # small, pure Python, and installed with everything here


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of environments, and a package index of one wheel made here, so that no network is needed."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PREDICTION_VENV_CACHE", str(folder))
    return folder


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """A folder with the wheel of a package of our own, in place of an index; uv's cache is empty."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    make_wheel(folder, "marsupial", "1.0")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
    return folder


def make_wheel(folder: Path, name: str, number: str) -> None:
    import zipfile

    info = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {number!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def imported(python: Path) -> str:
    code = "import marsupial, sys; print(marsupial.version, sys.version_info[:2])"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_environment_has_the_requirements_and_this_python(cache, wheels):
    python = ensure_environment("marsupial==1.0\n")
    assert imported(python) == f"1.0 {sys.version_info[:2]}"
    assert python.is_relative_to(cache)


def test_same_requirements_in_another_order_use_the_same_environment(cache, wheels, caplog):
    make_wheel(wheels, "tail", "2.0")
    first = ensure_environment("marsupial==1.0\ntail==2.0\n")
    built = first.stat().st_mtime_ns, first.parent.parent.stat().st_ino
    with caplog.at_level(logging.INFO):
        second = ensure_environment("\n tail==2.0\nmarsupial==1.0")
    assert second == first
    assert (second.stat().st_mtime_ns, second.parent.parent.stat().st_ino) == built
    assert "Using the virtual environment" in caplog.text


def test_other_requirements_get_another_environment(cache, wheels):
    make_wheel(wheels, "marsupial", "1.1")
    assert imported(ensure_environment("marsupial==1.0")).startswith("1.0")
    assert imported(ensure_environment("marsupial==1.1")).startswith("1.1")


def test_tasks_at_the_same_time_share_one_environment(cache, wheels, caplog):
    with ThreadPoolExecutor(4) as pool, caplog.at_level(logging.INFO):
        pythons = set(pool.map(ensure_environment, ["marsupial==1.0"] * 4))
    assert len(pythons) == 1
    assert caplog.text.count("Building the virtual environment") == 1
    assert imported(pythons.pop())


def test_environment_that_cannot_be_built_leaves_nothing_and_says_why(cache, wheels):
    with pytest.raises(AirflowException, match=r"could not be built: (.|\n)*no-such-marsupial"):
        ensure_environment("no-such-marsupial==1.0")
    assert [path for path in cache.iterdir() if path.is_dir()] == []
    assert ensure_environment("marsupial==1.0").exists()


def test_half_built_environment_is_made_anew(cache, wheels):
    """As a task leaves it that was killed while uv installed."""
    python = ensure_environment("marsupial==1.0")
    python.unlink()
    assert imported(ensure_environment("marsupial==1.0"))


def test_environment_can_be_moved_with_its_programs(cache, wheels):
    """It was built elsewhere and renamed."""
    folder = ensure_environment("marsupial==1.0").parent.parent
    assert (
        "venv" not in (folder / "bin" / "activate").read_text().split("VIRTUAL_ENV=")[1].splitlines()[0].split("/")[-1]
    )


def test_installed_versions_are_the_constraints(cache, wheels):
    """What is here is in uv's cache; any other version would have to be downloaded."""
    make_wheel(wheels, PACKAGE, version(PACKAGE))
    make_wheel(wheels, PACKAGE, "999.0")
    python = ensure_environment(PACKAGE)
    code = f"from importlib.metadata import version; print(version({PACKAGE!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == version(PACKAGE)


def test_cache_without_the_variable_is_of_this_user_alone(monkeypatch):
    monkeypatch.delenv("PREDICTION_VENV_CACHE", raising=False)
    assert cache_folder().name.startswith("prediction-venvs-")


def test_operator_keeps_credentials_out_of_arguments_and_templates(monkeypatch):
    # pragma: allowlist nextline secret, because it is made up
    monkeypatch.setattr(venv_prediction, "mlflow_environment", lambda: {"AWS_SECRET_ACCESS_KEY": "secret"})
    operator = CachedVenvPredictOperator(
        task_id="predict", model_uri="s3://bucket/models/m-1/artifacts", data=pd.DataFrame({"age": [1.0]})
    )
    assert set(operator.op_kwargs) == {"model_uri", "data"}
    assert operator.inherit_env is False  # Airflow's own variables, its database password among them, stay here
    assert "secret" not in repr({field: getattr(operator, field) for field in operator.template_fields})


def test_child_inherits_proxies_and_certificates_and_no_secret_of_airflow(monkeypatch):
    from airflow.sdk import DAG

    from include.servers.connections import NETWORK_VARIABLES

    for name in NETWORK_VARIABLES:
        monkeypatch.setenv(name, f"value of {name}")
    # pragma: allowlist nextline secret, because it is made up
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://airflow:secret@h/airflow")
    for name in ("connect_mlflow", "require_safe", "require_known", "ensure_environment"):
        monkeypatch.setattr(venv_prediction, name, lambda *_: None)
    monkeypatch.setattr(venv_prediction.pyfunc, "get_model_dependencies", lambda _: "/dev/null")
    monkeypatch.setattr(venv_prediction, "mlflow_environment", lambda: {"AWS_CA_BUNDLE": "of the connection"})
    with DAG("inherits", schedule=None):
        operator = CachedVenvPredictOperator(task_id="predict", model_uri="s3://b/k", data=pd.DataFrame({"age": [1.0]}))
    monkeypatch.setattr(operator, "_execute_python_callable_in_subprocess", lambda _: [1.0])
    operator.predict()
    environment = operator.env_vars
    for name in NETWORK_VARIABLES:
        assert environment[name] == ("of the connection" if name == "AWS_CA_BUNDLE" else f"value of {name}")
    assert not [name for name in environment if name.startswith("AIRFLOW")]


def test_time_to_build_leaves_time_to_score():
    from include.dag_defaults import DEFAULT_ARGS

    assert venv_prediction.OFFLINE_TIMEOUT < venv_prediction.BUILD_TIMEOUT
    assert DEFAULT_ARGS["execution_timeout"].total_seconds() >= venv_prediction.BUILD_TIMEOUT + 240


@pytest.fixture
def sleepy_uv(tmp_path, monkeypatch) -> Path:
    """A uv that makes environments, and never comes to an end with what it shall install."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "uv").write_text('#!/bin/sh\necho "$@" >> "$0.log"\n[ "$1" = venv ] || exec sleep 60\n')
    (folder / "uv").chmod(0o755)
    monkeypatch.setattr(venv_prediction.shutil, "which", lambda *_, **__: str(folder / "uv"))
    return folder / "uv.log"


def test_slow_index_ends_within_the_time_for_all_of_it_and_is_tried_again(cache, sleepy_uv, monkeypatch):
    monkeypatch.setattr(venv_prediction, "BUILD_TIMEOUT", 2)
    monkeypatch.setattr(venv_prediction, "OFFLINE_TIMEOUT", 1)
    began = time.monotonic()
    with pytest.raises(AirflowException, match="was not built within 2 s") as raised:
        ensure_environment("marsupial==1.0")
    assert time.monotonic() - began < 5
    assert hopeless(raised.value) is None
    installs = [line for line in sleepy_uv.read_text().splitlines() if line.startswith("pip install")]
    assert ["--offline" in line for line in installs] == [True, False]
    assert [path for path in cache.iterdir() if path.is_dir()] == []


def test_waiting_for_another_task_that_builds_counts_as_building(cache, sleepy_uv, monkeypatch):
    monkeypatch.setattr(venv_prediction, "BUILD_TIMEOUT", 1.5)
    with ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        tries = [pool.submit(ensure_environment, "marsupial==1.0") for _ in range(2)]
        for each in tries:
            with pytest.raises(AirflowException, match="was not built within"):
                each.result()
    assert time.monotonic() - began < 5
