"""Models as artifacts in Weights & Biases: published, fetched by their version, marked by an alias."""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.errors import ConfigurationError, InputError
from include.object_store import sha256_hex
from include.wandb_tracking.download import download
from include.wandb_tracking.errors import existing
from include.wandb_tracking.runs import TrackedRun

MODEL_TYPE = "model"
MODEL_WAIT_SECONDS = 120
DOWNLOAD_SECONDS = 120

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelReference:
    """A published model: exactly that version, with what is needed to notice any other content.

    ``version`` and ``qualified_name`` are None when it was published offline: the server gives versions.
    """

    name: str
    file: str
    digest: str
    sha256: str
    version: str | None = None
    qualified_name: str | None = None


def publish_model(
    tracked: TrackedRun,
    files: Mapping[str, bytes],
    name: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    timeout: int = MODEL_WAIT_SECONDS,
) -> ModelReference:
    """Publish a model as an artifact and wait until the server has it. The first file is the model."""
    model_file, content = next(iter(files.items()))
    sha256 = sha256_hex(content)
    with tracked.explained(f"publishing {name}"):
        import wandb

        artifact = wandb.Artifact(name, type=MODEL_TYPE, metadata={"sha256": sha256, **(metadata or {})})
        # Beside the run, and "immutable", so that wandb takes them from there: what it stages itself is gone when this
        # process ends, and then "wandb sync" leaves the artifact out without failing.
        staged = tracked.place / "artifacts" / name
        staged.mkdir(parents=True, exist_ok=True)
        for file_name, file_content in files.items():
            (staged / file_name).write_bytes(file_content)
            artifact.add_file(str(staged / file_name), name=file_name, policy="immutable")
        tracked.run.log_artifact(artifact, aliases=["latest"])
        if not tracked.online:
            return ModelReference(name, model_file, artifact.digest, sha256)
        try:
            artifact.wait(timeout=timeout)
        except ValueError as error:  # not of a bad value: it tells what wandb-core has met
            raise wandb.errors.CommError(str(error)) from error
    log.info("Published %s", artifact.qualified_name)
    return ModelReference(name, model_file, artifact.digest, sha256, artifact.version, artifact.qualified_name)


def fetch_model(tracked: TrackedRun, reference: ModelReference, *, timeout: float = DOWNLOAD_SECONDS) -> bytes:
    """Get the very model that was published from the server, and check it.

    Raises ModelDeleted where the server no longer has it, InputError where it is another one.
    """
    if not tracked.online or reference.qualified_name is None:
        raise ConfigurationError(f"{reference.name} was published offline: take it from the object store")
    with tracked.explained(f"using {reference.qualified_name}"), existing(reference.qualified_name):
        artifact = tracked.run.use_artifact(reference.qualified_name, type=MODEL_TYPE)  # also records the lineage
    if artifact.digest != reference.digest:
        raise InputError(f"{reference.qualified_name} on the server is not what was published: its digest differs.")
    with (
        tracked.explained(f"downloading {reference.qualified_name}"),
        tempfile.TemporaryDirectory(dir=tracked.place) as folder,
    ):
        download(reference.qualified_name, Path(folder), tracked, timeout)
        content = (Path(folder) / "files" / reference.file).read_bytes()
    if sha256_hex(content) != reference.sha256:
        where = f"{reference.file} in {reference.qualified_name}"
        raise InputError(f"{where} is not what was published: its SHA-256 differs.")
    return content


def give_alias(tracked: TrackedRun, reference: ModelReference, alias: str) -> None:
    """Give a published version an alias; the server takes it from the version that has it.

    Raises ModelDeleted where the server no longer has that version.
    """
    published = str(reference.qualified_name)
    with tracked.explained(f"giving {published} the alias {alias}"), existing(published):
        import wandb

        artifact = wandb.Api().artifact(published, type=MODEL_TYPE)
        if alias not in artifact.aliases:
            artifact.aliases.append(alias)
            artifact.save()
    log.info("%s has the alias %s", published, alias)
