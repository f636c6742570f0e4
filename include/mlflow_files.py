"""The files of an MLflow run in the object store: noted with their digests when the run ends, and looked for later.

A lifecycle rule, or a person, may remove files of a run that MLflow still shows as finished. Who relies on such a run asks
find_damage first.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from include.object_store import object_path, sha256_hex

if TYPE_CHECKING:
    from mlflow.entities import Run

FILES_TAG = "airflow.files"  # JSON: SHA-256 by file name, by folder
# predict's add_line_to_file adds these packages to these files; all else in the files stays as it is.
# pyarrow is how pandas 3 keeps text, in the rows that are handed over too.
ADDED_PACKAGES = ("boto3", "pandas", "pyarrow")
GROWING_FILES = ("requirements.txt", "conda.yaml")
ADDED_PACKAGE = re.compile(rf"(- )?({'|'.join(ADDED_PACKAGES)})==[\w.!+-]+")


def record_files(run_id: str) -> None:
    """Note in a tag of the run which files it and its logged models consist of: the last thing before the run ends."""
    import mlflow

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    models = [client.get_logged_model(each.model_id) for each in _logged_models(run)]
    folders = [str(run.info.artifact_uri), *(model.artifact_location for model in models)]
    files = {
        folder: {name: _digest(name, object_path(f"{folder}/{name}").read_bytes()) for name in _names(folder)}
        for folder in folders
    }
    client.set_tag(run_id, FILES_TAG, json.dumps(files))


def recorded_file(run: "Run", name: str) -> tuple[str, str] | None:
    """Address and SHA-256 (hex) of a file among the run's own artifacts, as they were noted; None where it was not."""
    folder = str(run.info.artifact_uri)
    files = json.loads(run.data.tags.get(FILES_TAG, "{}")).get(folder, {})
    return (f"{folder}/{name}", files[name]) if name in files else None


def find_damage(run_id: str) -> str | None:
    """What is wrong with a finished run: it or its model is deleted, or a file is missing or changed; None if nothing is."""
    import mlflow

    client = mlflow.MlflowClient()
    run = _unless_gone(client.get_run, run_id)
    if run is None:
        return f"MLflow run {run_id} does not exist any more"
    if run.info.lifecycle_stage != "active":
        return f"MLflow run {run_id} is deleted"
    for each in _logged_models(run):
        if _unless_gone(client.get_logged_model, each.model_id) is None:
            return f"the logged model {each.model_id} of MLflow run {run_id} is deleted"
    for folder, files in json.loads(run.data.tags.get(FILES_TAG, "{}")).items():
        for name, sha256 in files.items():
            try:
                content = object_path(f"{folder}/{name}").read_bytes()
            except FileNotFoundError:
                return f"{folder}/{name} does not exist"
            if _digest(name, content) != sha256:
                return f"{folder}/{name} has changed"
    return None


def _unless_gone(get: Callable[[str], Any], id_: str) -> Any | None:
    from mlflow.exceptions import MlflowException

    try:
        return get(id_)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _logged_models(run: "Run") -> list:
    return list(run.outputs.model_outputs) if run.outputs else []


def _names(folder: str, path: str | None = None) -> Iterator[str]:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    for each in get_artifact_repository(folder).list_artifacts(path):
        if each.is_dir:
            yield from _names(folder, each.path)
        else:
            yield each.path


def _digest(name: str, content: bytes) -> str:
    if name in GROWING_FILES:
        lines = content.decode(errors="replace").splitlines()
        content = "\n".join(line for line in lines if not ADDED_PACKAGE.fullmatch(line.strip())).encode()
    return sha256_hex(content)
