"""What a logged model may say of itself; that nothing of it runs is shown in tests/integration/resilience."""

from typing import Any

import pytest
import yaml

from include.errors import InputError
from include.model_safety import require_known, require_safe
from include.venv_prediction import KNOWN_PACKAGES

LOADER = {"loader_module": "mlflow.sklearn", "model_path": "model.skops", "predict_fn": "predict"}
SKLEARN = {"code": None, "pickled_model": "model.skops", "serialization_format": "skops", "skops_trusted_types": None}


def model(folder: Any, content: Any) -> str:
    (folder / "MLmodel").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return f"file://{folder}"


@pytest.mark.parametrize("flavors", [{"python_function": LOADER, "sklearn": SKLEARN}, {"sklearn": SKLEARN}])
def test_what_the_project_writes_may_be_loaded(tmp_path, flavors):
    require_safe(model(tmp_path, {"flavors": flavors}))


@pytest.mark.parametrize(
    ("flavors", "words"),
    [
        ({"python_function": LOADER | {"loader_module": "evil"}, "sklearn": SKLEARN}, "its loader is not"),
        ({"python_function": LOADER | {"code": "code"}, "sklearn": SKLEARN}, "it brings code along"),
        ({"python_function": LOADER | {"data": "other"}, "sklearn": SKLEARN}, "another folder"),
        ({"python_function": LOADER | {"model_path": "../m.skops"}, "sklearn": SKLEARN}, "another folder"),
        ({"python_function": LOADER, "sklearn": SKLEARN | {"serialization_format": "pickle"}}, "no skops archive"),
        ({"python_function": LOADER, "sklearn": SKLEARN | {"skops_trusted_types": ["os.system"]}}, "should trust"),
        ({"python_function": LOADER, "sklearn": SKLEARN, "spacy": {}}, "other flavors"),
        ({"python_function": LOADER}, "is not what this project has written"),
    ],
)
def test_anything_else_may_not_and_is_named(tmp_path, flavors, words):
    with pytest.raises(InputError, match=words) as raised:
        require_safe(model(tmp_path, {"flavors": flavors}))
    assert f"{tmp_path}/MLmodel" in str(raised.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "flavors: 7", "{", "!!python/object/apply:os.system ['true']"])
def test_file_that_is_no_mlmodel_is_named(tmp_path, content):
    with pytest.raises(InputError, match="MLmodel is not what this project has written"):
        require_safe(model(tmp_path, content))


def test_known_requirements_may_be_installed():
    require_known("numpy==1.26.4\nscikit-learn==1.6.1\n\nmlflow-skinny==3.17.2+local", *KNOWN_PACKAGES)


@pytest.mark.parametrize(
    "line",
    ["evil==1", "numpy>=1", "numpy", "numpy @ https://evil.invalid/n.tgz", "-r other.txt", "numpy==1 --pre", "."],
)
def test_any_other_requirement_is_refused(line):
    with pytest.raises(InputError, match="the model's requirements have"):
        require_known(f"numpy==1.26.4\n{line}", *KNOWN_PACKAGES)


def test_known_packages_are_those_that_the_models_are_logged_with():
    from include.mlflow_files import ADDED_PACKAGES
    from include.possum.tracking import MODEL_PACKAGES

    assert {*MODEL_PACKAGES, *ADDED_PACKAGES} == set(KNOWN_PACKAGES)
