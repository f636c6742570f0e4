"""S3 by connections in many forms: all parts of the pipelines reach the same server, or the first one says why not."""

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
import s3fs
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include import venv_prediction
from include.buckets import EnsureBucketOperator
from include.doctor import examine
from include.mlflow_tracking import connect_mlflow
from include.object_store import object_path, read_object, write_object
from include.task_errors import fail_at_once
from include.xcom_backend import ObjectStoreXComBackend
from tests.fakes.http_proxy import proxy_to
from tests.fakes.http_server import Request, Response, answering
from tests.support.certificates import Certificates
from tests.support.servers import ACCESS_KEY, SECRET_KEY, Port, aws

FRAME = pd.DataFrame({"case": [1, 2], "age": [1.5, None]})
MODEL = "s3://mlflowdatapossums/model"
PROJECT = Path(__file__).parents[3]
MLFLOW = {"conn_type": "http", "host": "http://127.0.0.1:9"}  # which none of these parts calls


def make_bucket(name: str) -> None:
    EnsureBucketOperator(task_id="bucket", bucket_name=name, aws_conn_id="aws_default").execute(Context())


def pass_frame() -> None:
    stored = ObjectStoreXComBackend.serialize_value({"frame": FRAME}, key="k", task_id="t", dag_id="d", run_id="r")
    result = type("Row", (), {"value": stored})()
    pd.testing.assert_frame_equal(ObjectStoreXComBackend.deserialize_value(result)["frame"], FRAME)


def export_with_sdk() -> None:
    from astro.files import File

    File("s3://data/exported.csv", conn_id="aws_default").create_from_dataframe(FRAME)
    assert read_object("s3://data/exported.csv").startswith(b"case,age")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a model as MLflow saves it."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LinearRegression

    rows = pd.DataFrame({"age": [1.0, 2.0, 3.0]})
    regression = LinearRegression().fit(rows, [10.0, 20.0, 30.0])
    folder = tmp_path_factory.mktemp("saved") / "model"
    requirements = [f"{name}=={version(name)}" for name in ("mlflow-skinny", "scikit-learn", "skops")]
    mlflow.sklearn.save_model(
        regression,
        folder,
        serialization_format="skops",
        pip_requirements=requirements,
        signature=infer_signature(rows, [1.0]),
    )
    return str(folder)


def log_model(folder: str) -> None:
    """As MLflow's client does in a task."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    connect_mlflow()
    repository = get_artifact_repository(MODEL)
    repository.log_artifacts(folder)
    assert "MLmodel" in {each.path for each in repository.list_artifacts()}


# As in the environments of models there is no Airflow; where there is, the child would look for the task that it belongs to.
CHILD = f"""#!{sys.executable}
import runpy, sys
sys.modules["airflow"] = None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def predict(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[float]:
    """By the operator, in a child process, but with this interpreter in place of an environment that had to be built."""
    from airflow.sdk import DAG

    python = folder / "python"
    python.write_text(CHILD)
    python.chmod(0o755)
    monkeypatch.setattr(venv_prediction, "ensure_environment", lambda _: python)
    with DAG("predict_here", schedule=None):
        operator = venv_prediction.CachedVenvPredictOperator(
            task_id="predict", model_uri=MODEL, data=pd.DataFrame({"age": [4.0]})
        )
    return operator.predict()


@pytest.fixture
def works_everywhere(model: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Use the object store in all the ways that the pipelines do, on demand in a child process too."""

    def use(child: bool = True) -> None:
        make_bucket("made")
        write_object("s3://data/folder/an object+%.txt", b"possum")
        assert read_object("s3://data/folder/an object+%.txt") == b"possum"
        object_path("s3://data/folder/an object+%.txt").unlink()
        pass_frame()
        export_with_sdk()
        assert examine("S3").healthy, examine("S3")
        assert examine("S3 bucket data").healthy
        log_model(model)
        if child:
            assert predict(monkeypatch, tmp_path) == pytest.approx([40.0])

    return use


FORMS: dict[str, Callable[[str], dict[str, Any] | str]] = {
    "json": aws,
    "extra-as-text": lambda url: aws(url) | {"extra": json.dumps(aws(url)["extra"])},
    "keys-in-extra": lambda url: {
        "conn_type": "aws",
        "extra": {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY, "endpoint_url": url},
    },
    "uri": lambda url: (
        f"aws://{ACCESS_KEY}:{quote(SECRET_KEY, safe='')}@/?endpoint_url={quote(url, safe='')}&region_name=us-east-1"
    ),
    "service-config": lambda url: aws("http://127.0.0.1:9", service_config={"s3": {"endpoint_url": url}}),
    "slash-at-the-end": lambda url: aws(f"{url}/"),
    "other-region": lambda url: aws(url, region_name="eu-central-1"),
    "path-style": lambda url: aws(url, config_kwargs={"s3": {"addressing_style": "path"}}),
    "no-checksums": lambda url: aws(url, config_kwargs={"request_checksum_calculation": "when_required"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_parts_reach_the_server_by_any_form_of_the_connection(s3: Port, define, works_everywhere, form):
    define(aws=FORMS[form](s3.url()), mlflow=MLFLOW)
    works_everywhere(child=form == "uri")


def test_login_that_was_set_for_another_program_changes_nothing(s3: Port, define, works_everywhere, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another login")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    define(aws=aws(s3.url()), mlflow=MLFLOW)
    works_everywhere()


@pytest.mark.faults
def test_keys_of_this_machine_serve_a_connection_without_any(s3: Port, define, works_everywhere, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    define(aws=f"aws://?endpoint_url={quote(s3.url(), safe='')}", mlflow=MLFLOW)
    works_everywhere(child=False)


@pytest.mark.faults
def test_profile_is_read_by_all_parts(s3: Port, define, works_everywhere, monkeypatch, tmp_path):
    (tmp_path / "credentials").write_text(
        f"[of the team]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    extra = {"profile_name": "of the team", "endpoint_url": s3.url()}
    define(aws={"conn_type": "aws", "extra": extra}, mlflow=MLFLOW)
    works_everywhere()


@pytest.mark.faults
def test_role_is_assumed_by_all_parts(s3: Port, define, works_everywhere):
    def lend(_: Request) -> Response:
        """Amazon's STS, which lends the only keys that this S3 server knows."""
        return Response(
            "<AssumeRoleResponse><AssumeRoleResult><Credentials>"
            f"<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>"
            "<SessionToken>lent</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>",
            mimetype="text/xml",
        )

    with answering(lend) as sts:
        role = {"role_arn": "arn:aws:iam::123456789012:role/possum", "service_config": {"sts": {"endpoint_url": sts}}}
        define(aws=aws(s3.url(), **role) | {"login": "base", "password": "base"}, mlflow=MLFLOW)
        works_everywhere()


@pytest.mark.parametrize("checked", [False, True], ids=["not-checked", "ca-file"])
def test_certificates_are_checked_by_all_parts_as_the_connection_says(
    s3_tls: Port, certificates: Certificates, define, works_everywhere, checked
):
    verify = certificates.authority if checked else False
    define(aws=aws(s3_tls.url("https"), verify=verify), mlflow=MLFLOW)
    works_everywhere()


@pytest.mark.faults
def test_ca_bundle_of_the_environment_serves_all_parts(
    s3_tls: Port, certificates: Certificates, define, works_everywhere, monkeypatch
):
    monkeypatch.setenv("AWS_CA_BUNDLE", certificates.authority)
    define(aws=aws(s3_tls.url("https")), mlflow=MLFLOW)
    works_everywhere()


FIRST_WRITES = {
    "object": "from include.object_store import write_object; write_object('s3://data/first', b'1')",
    "hook": "from include.doctor import examine; found = examine('S3 bucket data'); assert found.healthy, found",
}


@pytest.mark.parametrize("code", FIRST_WRITES.values(), ids=FIRST_WRITES)
def test_first_write_of_a_process_over_https_is_accepted(s3_tls: Port, define, code):
    """In a process in which nothing has set up MLflow's client."""
    define(aws=aws(s3_tls.url("https"), verify=False))
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def use_mlflows_client() -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    connect_mlflow()
    get_artifact_repository(MODEL).list_artifacts()


PARTS: dict[str, Callable[[], Any]] = {
    "bucket": lambda: make_bucket("made"),
    "read": lambda: fail_at_once(read_object)("s3://data/x"),
    "write": lambda: fail_at_once(write_object)("s3://data/x", b"1"),
    "xcom": pass_frame,
    "mlflow": fail_at_once(use_mlflows_client),
}


@pytest.mark.parametrize("part", PARTS)
def test_certificate_that_is_not_trusted_fails_at_once_and_says_where_to_trust_it(
    s3_tls: Port, define, monkeypatch, part
):
    # the clients try again by themselves, whatever the error is
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    define(aws=aws(s3_tls.url("https")), mlflow=MLFLOW)
    with pytest.raises(
        AirflowFailException, match=r'certificate is not accepted.*"verify" in extra of connection aws_default'
    ):
        PARTS[part]()
    finding = examine("S3")
    assert "certificate is not accepted" in finding.found
    assert "AIRFLOW_CONN_AWS_DEFAULT" in finding.remedy


def test_ca_file_that_is_not_there_is_named(s3_tls: Port, define):
    define(aws=aws(s3_tls.url("https"), verify="/no/such/ca.pem"), mlflow=MLFLOW)
    with pytest.raises(AirflowFailException, match=r"verify of connection aws_default is /no/such/ca\.pem"):
        make_bucket("made")


@pytest.mark.faults
def test_server_behind_a_proxy_is_reached_by_all_parts(s3: Port, define, works_everywhere, monkeypatch):
    with proxy_to({"s3.internal": s3.number}) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        define(aws=aws("http://s3.internal"), mlflow=MLFLOW, postgres="postgres://me:pw@127.0.0.1:9/db")
        works_everywhere()
        assert examine("Ports").found.startswith("nothing listens for MLflow")  # and not for S3, by way of the proxy
    assert any(request.startswith("PUT http://s3.internal/data/") for request in proxy.asked)


def test_proxy_that_does_not_answer_is_named_and_tried_again(define, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    define(aws=aws("http://s3.internal"), mlflow=MLFLOW)
    with pytest.raises(Exception) as raised:  # noqa: PT011 (botocore's own)
        make_bucket("made")
    assert not isinstance(raised.value, AirflowFailException)
    assert "proxy in front of the object store does not answer" in raised.value.__notes__[0]
    assert "HTTP_PROXY" in raised.value.__notes__[0]
