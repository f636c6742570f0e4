"""What the W&B server of the tests knows: runs, artifacts and their files."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeRun:
    """One run as the server knows it."""

    id: str
    name: str
    entity: str
    project: str
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    raw_config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    state: str = "running"
    exit_code: int | None = None
    used: list[str] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """The user's own configuration, without what the client adds."""
        return {key: entry["value"] for key, entry in self.raw_config.items() if key != "_wandb"}

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of ``run.log``, in order."""
        return [json.loads(line) for _, line in sorted(self.lines.get("wandb-history.jsonl", {}).items())]

    @property
    def output(self) -> str:
        """The console lines that the client captured."""
        return "\n".join(line for _, line in sorted(self.lines.get("output.log", {}).items()))


@dataclass
class FakeArtifact:
    """One version of an artifact; ``version`` is None until it is committed."""

    id: str
    entity: str
    project: str
    collection: str
    type: str
    digest: str
    metadata: dict[str, Any]
    description: str | None
    requested_aliases: list[str]
    created_by: str
    version_index: int | None = None
    aliases: list[str] = field(default_factory=list)
    manifest_key: str = ""
    files: dict[str, str] = field(default_factory=dict)  # name -> MD5 in base64, the key into the blobs
    used_by: list[str] = field(default_factory=list)

    @property
    def version(self) -> str | None:
        """For example ``v0``."""
        return None if self.version_index is None else f"v{self.version_index}"


class State:
    """All that the server was told, for tests to read."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._runs: dict[tuple[str, str, str], FakeRun] = {}
        self._artifacts: dict[str, FakeArtifact] = {}
        self._blobs: dict[str, bytes] = {}

    @property
    def runs(self) -> list[FakeRun]:
        """All runs, in the order of their creation."""
        return list(self._runs.values())

    def run(self, name: str) -> FakeRun:
        """The run with this id; fails unless there is exactly one."""
        (found,) = (run for run in self.runs if run.name == name)
        return found

    def versions(self, collection: str) -> list[FakeArtifact]:
        """The committed versions of an artifact, oldest first."""
        found = [a for a in self._artifacts.values() if a.collection == collection and a.version_index is not None]
        return sorted(found, key=lambda artifact: artifact.version_index or 0)

    def content(self, artifact: FakeArtifact, name: str) -> bytes:
        """The bytes of one file of an artifact."""
        return self._blobs[artifact.files[name]]

    def delete_versions(self, collection: str) -> None:
        """Delete all versions of an artifact."""
        for artifact in self.versions(collection):
            del self._artifacts[artifact.id]
