"""The provider's ModelLoadAndPredictOperator, made to work and made fast.

Imports mlflow: import it in a task's body, not in a DAG file.
"""

import include.legacy_packages

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd
from airflow.sdk.exceptions import AirflowException
from filelock import FileLock, Timeout
from mlflow import pyfunc
from mlflow_provider.operators.pyfunc import ModelLoadAndPredictOperator

from include.mlflow_tracking import connect_mlflow, mlflow_environment
from include.model_safety import require_known, require_safe
from include.servers.connections import NETWORK_VARIABLES

log = logging.getLogger(__name__)

CACHE_VARIABLE = "PREDICTION_VENV_CACHE"
# what the project's models require: tracking.MODEL_PACKAGES, and what add_line_to_file adds
KNOWN_PACKAGES = ("mlflow-skinny", "numpy", "scikit-learn", "scipy", "skops", "boto3", "pandas", "pyarrow")
# Seconds for the whole build, including the wait for another task that builds the same environment. It leaves time for scoring
# within the task's execution_timeout (dag_defaults).
BUILD_TIMEOUT = 600
OFFLINE_TIMEOUT = 120  # of these, for the attempt without network


def load_and_predict(model_uri: str, data: Any) -> Any:
    """Run in the virtual environment: load the model, with its signature, and score the rows by column name.

    Its source is copied into a script, so it imports what it needs itself; the environment variables say where the
    servers are and how to log in.
    """
    import gc

    gc.disable()  # a process this short has nothing to gain from it, and importing is a fifth slower with it
    from mlflow import pyfunc

    # the warnings are of versions other than the model's; the environment is made of exactly those, and comparing takes time
    return pyfunc.load_model(model_uri, suppress_warnings=True).predict(data).tolist()


class CachedVenvPredictOperator(ModelLoadAndPredictOperator):
    """Score ``data`` with a logged model, in a virtual environment of the model's own requirements.

    Other than the provider's operator it builds the environment with uv and keeps it for the next task with the same
    requirements, keeps the model's signature and hands credentials over in the environment of the child process: in
    the arguments they would be in a file, and in the UI as rendered templates.
    """

    def __init__(self, *, model_uri: str, data: pd.DataFrame, **kwargs: Any) -> None:
        super().__init__(model_uri=model_uri, data=data, **kwargs)
        self.python_callable = load_and_predict
        self.op_kwargs = {"model_uri": model_uri, "data": data}
        # what the child inherits is chosen here: Airflow's variables, its database password among them, are not
        self.inherit_env = False

    def predict(self) -> list[float]:
        """Score the rows, in their order; what ``execute`` of the provider's operator is for."""
        connect_mlflow()
        require_safe(self.model_uri)
        requirements = Path(pyfunc.get_model_dependencies(self.model_uri)).read_text(encoding="utf-8")
        require_known(requirements, *KNOWN_PACKAGES)
        python = ensure_environment(requirements)
        kept = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", *NETWORK_VARIABLES)
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        self.env_vars = inherited | mlflow_environment()
        log.info("Scoring %d rows with %s", len(self.data), self.model_uri)
        predictions = self._execute_python_callable_in_subprocess(python)
        log.info("%d predictions, from %.1f to %.1f", len(predictions), min(predictions), max(predictions))
        return predictions


def cache_folder() -> Path:
    """Where the environments are kept, on this machine: the variable PREDICTION_VENV_CACHE, else a temporary folder."""
    default = Path(tempfile.gettempdir()) / f"prediction-venvs-{os.getuid()}"
    return Path(os.environ.get(CACHE_VARIABLE) or default)


def ensure_environment(requirements: str) -> Path:
    """The interpreter of an environment with these requirements, built unless one is there.

    The folder's name is a digest of the requirements and of this Python. It is built beside and then renamed, so an
    environment that exists is whole.
    """
    wanted = "\n".join(sorted(line.strip() for line in requirements.splitlines() if line.strip()))
    name = hashlib.sha256(f"{sys.version}\n{wanted}".encode()).hexdigest()[:16]
    folder = cache_folder() / name
    python = folder / "bin" / "python"
    if python.exists():
        log.info("Using the virtual environment %s", folder)
        return python
    folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    deadline = time.monotonic() + BUILD_TIMEOUT
    try:
        with FileLock(f"{folder}.lock", timeout=BUILD_TIMEOUT):
            if not python.exists():
                log.info("Building the virtual environment %s for:\n%s", folder, wanted)
                _build(folder, wanted, deadline)
    except (Timeout, subprocess.TimeoutExpired) as error:
        raise AirflowException(
            f"the model's environment was not built within {BUILD_TIMEOUT} s, here or by another task: the package index is "
            "slow or cannot be reached. What has been downloaded is kept for the next try"
        ) from error
    return python


def _build(folder: Path, requirements: str, deadline: float) -> None:
    """Resolve with what is installed here as constraints: those versions are in uv's cache, so no network is needed."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as build:
        wanted, constraints = Path(build, "requirements.txt"), Path(build, "constraints.txt")
        wanted.write_text(requirements, encoding="utf-8")
        constraints.write_text(
            "\n".join(sorted(f"{each.name}=={each.version}" for each in distributions())), encoding="utf-8"
        )
        install: list[str | Path] = [
            "pip",
            "install",
            "--quiet",
            "--requirements",
            wanted,
            "--constraints",
            constraints,
        ]
        _uv("venv", "--quiet", "--relocatable", "--python", sys.executable, f"{build}/venv", until=deadline)
        target = ["--python", f"{build}/venv/bin/python"]
        try:
            _uv(*install, *target, "--offline", until=min(deadline, time.monotonic() + OFFLINE_TIMEOUT))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            log.info("Not all packages are in uv's cache, downloading them")
            try:
                _uv(*install, *target, until=deadline)
            except subprocess.CalledProcessError as error:
                raise AirflowException(
                    f"the model's environment could not be built: {error.stderr.strip()[-1500:]}"
                ) from None
        Path(build, "venv").rename(folder)


def _uv(*arguments: str | Path, until: float) -> None:
    """Run uv; ``until`` is its deadline on the monotonic clock."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])) or "uv"
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    timeout = max(until - time.monotonic(), 0)
    subprocess.run([uv, *arguments], check=True, capture_output=True, text=True, timeout=timeout, env=environment)
