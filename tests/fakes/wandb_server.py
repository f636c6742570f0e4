"""A W&B server for tests: speaks to the real client (wandb 0.27.2) over loopback, standard library only.

It covers what one train and one predict need: runs with config, history, summary and files, resuming, artifacts with
versions and aliases, and ``wandb sync``. What a run uploaded can be read from Python (``server.run(...)``,
``server.versions(...)``), and faults can be switched on (``server.faults``, ``server.die()``).

    with FakeWandb(api_key="x" * 40) as server:
        ...  # WANDB_BASE_URL=server.url
"""

import argparse
import base64
import gzip
import hashlib
import itertools
import json
import logging
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote

ENTITY = "acme"
CREATED_AT = "2026-01-01T00:00:00Z"
# The server features without which this client takes the code paths for old servers.
FEATURES = ("PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP", "ARTIFACT_COLLECTION_MEMBERSHIP_FILES")
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")

KEY = "5ecre7" * 7  # for tests: as long as a real one, and found nowhere else
SECRETS = (KEY.encode(), base64.b64encode(f"api:{KEY}".encode()))  # as it is, and as HTTP sends it

log = logging.getLogger(__name__)


def files_with_key(folder: Path) -> list[Path]:
    """Files below the folder that hold the tests' key."""
    return [path for path in folder.rglob("*") if _holds_key(path)]


def _holds_key(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with suppress(FileNotFoundError):  # removed meanwhile, by a service that runs
        content = path.read_bytes()
        return any(secret in content for secret in SECRETS)
    return False


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


@dataclass
class Faults:
    """What the server does wrong from now on."""

    hang_downloads: bool = False  # accepts the request for a file and never answers
    hang_uploads: bool = False  # takes a file and never says so
    tampered: dict[str, bytes] = field(default_factory=dict)  # file name -> what is served in its place
    die_at: str | None = None  # the GraphQL operation at which the server goes away


class FakeWandb:
    """The server and its state; a context manager."""

    def __init__(self, api_key: str, port: int = 0) -> None:
        self.api_key = api_key
        self.faults = Faults()
        self.operations: list[str] = []  # names of the GraphQL operations, in order
        self.problems: list[str] = []  # what this server could not answer; a test should find none
        self.downloads: list[str] = []  # names of the artifact files that were fetched
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._runs: dict[tuple[str, str, str], FakeRun] = {}
        self._artifacts: dict[str, FakeArtifact] = {}
        self._blobs: dict[str, bytes] = {}
        self._sockets: set[socket.socket] = set()
        self._stopped = threading.Event()
        self._http = _Server(self, port)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    # life

    @property
    def url(self) -> str:
        """For WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    def die(self) -> None:
        """Go away: refuse connections and cut those that exist."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    # what tests read

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

    # plumbing, called by the request handler

    def track(self, connection: socket.socket) -> None:
        """Remember a connection, so that ``die`` can cut it."""
        with self._lock:
            self._sockets.add(connection)

    def forget(self, connection: socket.socket) -> None:
        """The connection is closed."""
        with self._lock:
            self._sockets.discard(connection)

    def authorised(self, header: str | None) -> bool:
        """Whether the request carries HTTP Basic ``api:KEY``."""
        expected = "Basic " + base64.b64encode(f"api:{self.api_key}".encode()).decode()
        return header == expected

    def graphql(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Answer one GraphQL request; None means that the server has just died."""
        match = OPERATION.search(body["query"])
        name = match[1] if match else "Viewer"  # the one nameless query asks whether the key is good
        with self._lock:
            self.operations.append(name)
        if name == self.faults.die_at:
            threading.Thread(target=self.die, daemon=True).start()
            return None
        answer: Callable[[dict[str, Any]], dict[str, Any]] | None = getattr(self, f"_on_{name}", None)
        if answer is None:
            self.problems.append(f"unknown operation {name}")
            return {"errors": [{"message": f"the fake server does not know {name}"}]}
        with self._lock:
            try:
                return {"data": answer(body.get("variables") or {})}
            except Exception as failure:  # an answer, or else the client would try for ever
                self.problems.append(f"{name}: {failure!r} {body}")
                return {"errors": [{"message": repr(failure)}], "data": None}

    def file_stream(self, entity: str, project: str, name: str, body: dict[str, Any]) -> None:
        """Take history, summary, events and console lines of a run."""
        with self._lock:
            run = self._runs[entity, project, name]
            for file, chunk in (body.get("files") or {}).items():
                lines = run.lines.setdefault(file, {})
                lines.update(enumerate(chunk["content"], start=chunk["offset"]))
                if file == "wandb-summary.json":
                    run.summary = json.loads(chunk["content"][-1])
            if body.get("complete"):
                run.exit_code = body.get("exitcode", 0)
                run.state = "finished" if run.exit_code == 0 else "failed"

    def upload(self, key: str, content: bytes) -> None:
        """Take the bytes that a URL of this server was handed out for; hangs if it is told to."""
        if self.faults.hang_uploads:
            self._stopped.wait()
        kind, _, rest = key.partition("/")
        with self._lock:
            if kind == "run":
                run_id, _, name = rest.partition("/")
                next(run for run in self.runs if run.id == run_id).files[name] = content
            else:
                self._blobs[rest] = content

    def download(self, key: str, name: str) -> bytes | None:
        """The bytes behind a URL, or None if there are none; hangs or lies if it is told to."""
        if key not in self._blobs:
            return None
        if name != "manifest":
            with self._lock:
                self.downloads.append(name)
            if self.faults.hang_downloads:
                self._stopped.wait()
            if name in self.faults.tampered:
                return self.faults.tampered[name]
        return self._blobs[key]

    # GraphQL: the account and the server

    def _on_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 (named as in the protocol, as all below)
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": {"id": "user", "username": ENTITY, "entity": ENTITY, "flags": "{}", "teams": teams}}

    _on_GetDefaultEntity = _on_Viewer  # noqa: N815
    _on_GetViewer = _on_Viewer  # noqa: N815

    def _on_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": [{"name": name, "isEnabled": True} for name in FEATURES]}}

    def _on_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"organization": {"coreWeaveOrganizationId": ""}}}

    # GraphQL: runs

    def _on_UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run, inserted = self._find_or_insert(given)
        run.display_name = given.get("displayName") or run.display_name or run.name
        run.group = given.get("groupName") or run.group
        run.job_type = given.get("jobType") or run.job_type
        run.tags = given.get("tags") or run.tags
        if given.get("config"):
            run.raw_config = json.loads(given["config"])
        if given.get("summaryMetrics"):
            run.summary = json.loads(given["summaryMetrics"])
        run.state = given.get("state") or ("running" if given.get("name") else run.state)
        project = {"id": run.project, "name": run.project, "entity": {"id": run.entity, "name": run.entity}}
        bucket = {
            "id": run.id,
            "name": run.name,
            "displayName": run.display_name,
            "description": "",
            "config": json.dumps(run.raw_config),
            "sweepName": None,
            "project": project,
            "historyLineCount": len(run.history),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _find_or_insert(self, given: dict[str, Any]) -> tuple[FakeRun, bool]:
        if given.get("id"):
            return next(run for run in self.runs if run.id == given["id"]), False
        key = (given.get("entity") or ENTITY, given.get("project") or "uncategorized", given["name"])
        if key in self._runs:
            return self._runs[key], False
        self._runs[key] = FakeRun(self._new_id("run"), key[2], key[0], key[1])
        return self._runs[key], True

    def _on_RunResumeStatus(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        entity, project = given.get("entity") or ENTITY, given["project"]
        run = self._runs.get((entity, project, given["name"]))
        model = {"id": project, "name": project, "entity": {"id": entity, "name": entity}, "bucket": None}
        if run is None:
            return {"model": model}
        counts = {name: len(run.lines.get(file, {})) for name, file in _LINE_COUNTS.items()}
        model["bucket"] = {
            "id": run.id,
            "name": run.name,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "config": json.dumps(run.raw_config),
            "tags": run.tags,
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
            **counts,
        }
        return {"model": model}

    def _on_CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self._runs[given["entity"] or ENTITY, given["project"], given["run"]]
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/run/{run.id}/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": run.id, "uploadHeaders": [], "files": files}}

    # GraphQL: publishing an artifact

    def _on_ArtifactType(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        found = self._by_name(given["project"], given["name"])
        return {"project": {"artifact": {"artifactType": {"name": found.type}} if found else None}}

    def _on_CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = variables.get("input") or variables
        collection = given.get("artifactCollectionName") or given["artifactCollectionNames"][0]
        aliases = [entry["alias"] for entry in given.get("aliases") or []]
        versions = self.versions(collection)
        latest = versions[-1] if versions else None
        same = next((a for a in versions if a.digest == given["digest"]), None)
        if same is not None and given.get("enableDigestDeduplication"):
            self._give_aliases(same, aliases)
            return self._created(same, latest, "COMMITTED")
        artifact = FakeArtifact(
            id=self._new_id("artifact"),
            entity=given.get("entityName") or ENTITY,
            project=given["projectName"],
            collection=collection,
            type=given["artifactTypeName"],
            digest=given["digest"],
            metadata=json.loads(given.get("metadata") or "{}"),
            description=given.get("description"),
            requested_aliases=aliases,
            created_by=given.get("runName") or "",
        )
        self._artifacts[artifact.id] = artifact
        return self._created(artifact, latest, "PENDING")

    def _created(self, artifact: FakeArtifact, latest: FakeArtifact | None, state: str) -> dict[str, Any]:
        sequence = {"latestArtifact": {"id": latest.id} if latest else None}
        return {"createArtifact": {"artifact": {"id": artifact.id, "state": state, "artifactSequence": sequence}}}

    def _on_CreateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self._artifacts[given["artifactID"]]
        artifact.manifest_key = _md5_key(artifact.id)  # hex, as every other key
        return self._manifest("createArtifactManifest", artifact)

    def _on_UpdateArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._manifest("updateArtifactManifest", self._artifacts[given["artifactManifestID"]])

    def _manifest(self, result: str, artifact: FakeArtifact) -> dict[str, Any]:
        upload = {"uploadUrl": f"{self.url}/storage/blob/{artifact.manifest_key}", "uploadHeaders": []}
        # One manifest for each artifact, so that the artifact's id serves as the manifest's.
        return {result: {"artifactManifest": {"id": artifact.id, "file": {"id": artifact.manifest_key, **upload}}}}

    def _on_CreateArtifactFiles(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = []
        for spec in given["artifactFiles"]:
            key = _md5_key(spec["md5"])
            known = key in self._blobs
            node: dict[str, Any] = {
                "id": key,
                "name": spec["name"],
                "displayName": spec["name"],
                "storagePath": f"blob/{key}",
                "uploadUrl": None if known else f"{self.url}/storage/blob/{key}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": spec["artifactID"]},
            }
            edges.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self._artifacts[given["artifactID"]]
        contents = json.loads(self._blobs[artifact.manifest_key])["contents"]
        artifact.files = {name: _md5_key(entry["digest"]) for name, entry in contents.items()}
        missing = [name for name, key in artifact.files.items() if key not in self._blobs]
        if missing:
            raise LookupError(f"files of the artifact were never uploaded: {missing}")
        artifact.version_index = len(self.versions(artifact.collection))
        self._give_aliases(artifact, artifact.requested_aliases)
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _give_aliases(self, artifact: FakeArtifact, aliases: list[str]) -> None:
        """An alias belongs to one version of a collection only: take it from the others."""
        for other in self.versions(artifact.collection):
            other.aliases = [alias for alias in other.aliases if alias not in aliases]
        artifact.aliases += [alias for alias in aliases if alias not in artifact.aliases]

    # GraphQL: using an artifact

    def _on_ArtifactByID(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"artifact": self._fragment(self._artifacts[given["id"]])}

    def _on_ArtifactMembershipByName(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self._by_name(given["project"], given["name"])
        return {"project": {"artifactCollectionMembership": artifact and self._membership(artifact)}}

    def _on_UseArtifact(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = given.get("input") or given
        artifact = self._artifacts[given["artifactID"]]
        run = self._runs[given["entityName"] or ENTITY, given["projectName"], given["runName"]]
        if run.name not in artifact.used_by:
            artifact.used_by.append(run.name)
            run.used.append(f"{artifact.collection}:{artifact.version}")
        return {"useArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest, "metadata": "{}"}}}

    def _on_FetchArtifactManifest(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key = self._artifacts[given["id"]].manifest_key
        url = f"{self.url}/storage/blob/{key}/manifest"
        return {"artifact": {"currentManifest": {"file": {"directUrl": url}}}}

    _on_ArtifactManifest = _on_FetchArtifactManifest  # noqa: N815

    def _on_GetArtifactMembershipFileUrls(self, given: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self._by_name(given["project"], f"{given['collection']}:{given['alias']}")
        if artifact is None:
            raise LookupError("no such artifact")
        urls = {name: f"{self.url}/storage/blob/{key}/{name}" for name, key in artifact.files.items()}
        edges = [{"node": {"__typename": "File", "name": name, "directUrl": url}} for name, url in urls.items()]
        files = {"pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}, "edges": edges}
        collection = {"__typename": "ArtifactSequence", "artifactMembership": {"files": files}}
        return {"project": {"artifactCollection": collection}}

    # GraphQL: changing an artifact

    def _on_AddAliases(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = variables["input"]
        self._give_aliases(self._artifacts[given["artifactID"]], [entry["alias"] for entry in given["aliases"]])
        return {"result": {"success": True}}

    def _on_DeleteAliases(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = variables["input"]
        artifact, gone = self._artifacts[given["artifactID"]], {entry["alias"] for entry in given["aliases"]}
        artifact.aliases = [alias for alias in artifact.aliases if alias not in gone]
        return {"result": {"success": True}}

    def _on_UpdateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = variables.get("input") or variables  # the client's Python half sends an input, its Go half does not
        artifact = self._artifacts[given["artifactID"]]
        if given.get("metadata"):
            artifact.metadata = json.loads(given["metadata"])
        artifact.description = given.get("description") or artifact.description
        return {"result": {"artifact": self._fragment(artifact)}}

    # helpers

    def _new_id(self, kind: str) -> str:
        """The client decodes the ids, which are base64 on the real server too."""
        return base64.b64encode(f"{kind}:{next(self._ids):06}".encode()).decode()

    def _by_name(self, project: str, name: str) -> FakeArtifact | None:
        """The version that ``collection:alias-or-version`` names."""
        collection, _, alias = name.partition(":")
        for artifact in self.versions(collection):
            if artifact.project == project and (alias or "latest") in {artifact.version, *artifact.aliases}:
                return artifact
        return None

    def _collection(self, artifact: FakeArtifact, kind: str) -> dict[str, Any]:
        project = {"name": artifact.project, "entity": {"name": artifact.entity}}
        return {"__typename": kind, "name": artifact.collection, "project": project}

    def _aliases(self, artifact: FakeArtifact) -> list[dict[str, Any]]:
        collection = self._collection(artifact, "ArtifactSequence")
        return [
            {"__typename": "ArtifactAlias", "id": f"alias-{alias}", "alias": alias, "artifactCollection": collection}
            for alias in artifact.aliases
        ]

    def _membership(self, artifact: FakeArtifact) -> dict[str, Any]:
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{artifact.id}",
            "versionIndex": artifact.version_index,
            "aliases": self._aliases(artifact),
            "artifactCollection": self._collection(artifact, "ArtifactSequence"),
            "artifact": self._fragment(artifact),
        }

    def _fragment(self, artifact: FakeArtifact) -> dict[str, Any]:
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": self._collection(artifact, "ArtifactSequence"),
            "versionIndex": artifact.version_index,
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,  # no time to live
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED" if artifact.version else "PENDING",
            "size": sum(len(self._blobs[key]) for key in artifact.files.values()),
            "digest": artifact.digest,
            "commitHash": artifact.id,
            "fileCount": len(artifact.files),
            "createdAt": CREATED_AT,
            "updatedAt": CREATED_AT,
            "aliases": self._aliases(artifact),
        }


_LINE_COUNTS = {
    "historyLineCount": "wandb-history.jsonl",
    "eventsLineCount": "wandb-events.jsonl",
    "logLineCount": "output.log",
}


def _md5_key(digest: str) -> str:
    """The client's base64 as something that can stand in a URL."""
    return base64.b64decode(digest).hex()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.fake.track(self.connection)

    def finish(self) -> None:
        self.server.fake.forget(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (named by the base class)
        log.debug(format, *args)

    def do_POST(self) -> None:
        raw = self._body()
        if not self.server.fake.authorised(self.headers.get("Authorization")):
            self._json({"errors": [{"message": "user is not logged in"}]}, status=401)
        elif self.path.startswith("/graphql"):
            self._graphql(json.loads(raw))
        else:
            _, _, entity, project, run, _ = unquote(self.path).split("/")  # /files/E/P/R/file_stream
            self.server.fake.file_stream(entity, project, run, json.loads(raw))
            self._json({"exitcode": None, "limits": {}})

    def do_PUT(self) -> None:
        # The URL is its own permission, as a signed one is.
        self.server.fake.upload(unquote(self.path).removeprefix("/storage/"), self._body())
        self._json({})

    def do_GET(self) -> None:
        _, _, kind, key, name = [*unquote(self.path).split("/", 4), "", "", ""][:5]
        content = self.server.fake.download(key, name) if kind == "blob" else None
        self._send(404 if content is None else 200, content or b"", "application/octet-stream")

    def _graphql(self, body: dict[str, Any]) -> None:
        answer = self.server.fake.graphql(body)
        if answer is None:
            self.close_connection = True
        else:
            self._json(answer)

    def _body(self) -> bytes:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _json(self, answer: dict[str, Any], status: int = 200) -> None:
        self._send(status, json.dumps(answer).encode(), "application/json")

    def _send(self, status: int, content: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", hashlib.md5(content, usedforsecurity=False).hexdigest())
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a handler that hangs on purpose must not hold up the test

    def __init__(self, fake: FakeWandb, port: int) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("connection of %s broke", client_address, exc_info=True)


def main() -> None:
    """Serve until interrupted, to look at by hand."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--api-key", default="0" * 40)
    arguments = parser.parse_args()
    with FakeWandb(arguments.api_key, arguments.port) as server, suppress(KeyboardInterrupt):
        print(f"export WANDB_BASE_URL={server.url} WANDB_API_KEY={arguments.api_key}", flush=True)  # noqa: T201
        threading.Event().wait()


if __name__ == "__main__":
    main()
