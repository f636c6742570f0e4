"""The requirements that MLflow keeps beside a logged model."""

import logging
import re
from importlib.metadata import version

import mlflow.models

from include.object_store import read_object

log = logging.getLogger(__name__)


def add_requirements(model_uri: str, *packages: str) -> str:
    """Add the packages, pinned to the versions installed here, to the model's requirements where they are missing.

    Args:
        model_uri: folder of a logged model, ``s3://...``.
        packages: names as in PyPI.

    Returns:
        The model's URI, for the tasks that need the requirements to be whole.

    """
    lines = read_object(f"{model_uri}/requirements.txt").decode().splitlines()
    present = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in lines}
    missing = [f"{package}=={version(package)}" for package in packages if package.lower() not in present]
    if missing:
        mlflow.models.update_model_requirements(model_uri, "add", missing)
    log.info("Requirements of %s: %s", model_uri, f"added {', '.join(missing)}" if missing else "nothing to add")
    return model_uri
