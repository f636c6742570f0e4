"""What must hold before a logged model is loaded, as loading one may run code that it brings along.

MLflow believes the model's own MLmodel file: which loader to import, which folder of code to put on the path, whether to
unpickle, which types skops may build. Who can write to the artifact bucket could change it.
"""

import re

from include.errors import InputError
from include.object_store import read_object

REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+")


def require_safe(model_uri: str) -> None:
    """Raise InputError unless loading the model (``s3://...``) can build scikit-learn's, numpy's and scipy's types only."""
    import yaml

    uri = f"{model_uri}/MLmodel"
    try:
        flavors = yaml.safe_load(read_object(uri))["flavors"]
        sklearn = flavors["sklearn"]
        # a transformer has no such flavor
        loader = flavors.get("python_function") or {"loader_module": "mlflow.sklearn", "model_path": "model.skops"}
        checks = {
            "it has other flavors than python_function and sklearn": flavors.keys() <= {"python_function", "sklearn"},
            "its loader is not mlflow.sklearn": loader["loader_module"] == "mlflow.sklearn",
            "it brings code along": not any(each.get("code") for each in (loader, sklearn)),
            "it is no skops archive": sklearn["serialization_format"] == "skops",
            "it lists types that skops should trust": not sklearn.get("skops_trusted_types"),
            "its file lies in another folder": "data" not in loader
            and all(
                re.fullmatch(r"[A-Za-z0-9_-]+\.skops", name)
                for name in (loader["model_path"], sklearn["pickled_model"])
            ),
        }
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{uri} is not what this project has written ({error!r}): train again") from error
    if wrong := [words for words, holds in checks.items() if not holds]:
        raise InputError(f"{uri} is not what this project has written: {'; '.join(wrong)}. Do not load it, train again")


def require_known(requirements: str, *packages: str) -> None:
    """Raise InputError where a requirement line is more than a known package with its version: pip may run what it gets."""
    for line in filter(None, map(str.strip, requirements.splitlines())):
        if not REQUIREMENT.fullmatch(line) or line.partition("==")[0].lower() not in packages:
            raise InputError(
                f"the model's requirements have {line!r}, which this project has not written (known are "
                f"{', '.join(packages)}, each with ==): do not install it, train again"
            )
