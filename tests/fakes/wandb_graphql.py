"""What the W&B server of the tests answers to each GraphQL operation of the real client (wandb 0.27.2)."""

import base64
import json
from typing import Any

from tests.fakes.wandb_state import FakeArtifact, FakeRun, State

ENTITY = "acme"
CREATED_AT = "2026-01-01T00:00:00Z"
# The server features without which this client takes the code paths for old servers.
FEATURES = ("PROJECT_ARTIFACT_COLLECTION_MEMBERSHIP", "ARTIFACT_COLLECTION_MEMBERSHIP_FILES")


class GraphQL(State):
    """A method ``_on_...`` for each operation that is answered."""

    url: str  # of the server itself, as uploads and downloads go there

    # the account and the server

    def _on_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 (named as in the protocol, as all below)
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {"viewer": {"id": "user", "username": ENTITY, "entity": ENTITY, "flags": "{}", "teams": teams}}

    _on_GetDefaultEntity = _on_Viewer  # noqa: N815
    _on_GetViewer = _on_Viewer  # noqa: N815

    def _on_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": [{"name": name, "isEnabled": True} for name in FEATURES]}}

    def _on_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"organization": {"coreWeaveOrganizationId": ""}}}

    # runs

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

    # publishing an artifact

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
        for spec in given["input"]["artifactFiles"]:
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

    # using an artifact

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

    # changing an artifact

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
        return _id_of(kind, f"{next(self._ids):06}")

    def _by_name(self, project: str, name: str) -> FakeArtifact | None:
        """The version that ``collection:alias-or-version`` names."""
        collection, _, alias = name.partition(":")
        for artifact in self.versions(collection):
            if artifact.project == project and (alias or "latest") in {artifact.version, *artifact.aliases}:
                return artifact
        return None

    def _collection(self, artifact: FakeArtifact, kind: str) -> dict[str, Any]:
        project = {
            "id": _id_of("Project", artifact.project),
            "internalId": _id_of("ProjectInternalId", artifact.project),
            "name": artifact.project,
            "entity": {"name": artifact.entity},
        }
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
            "createdAt": CREATED_AT,
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


def _id_of(kind: str, name: str) -> str:
    return base64.b64encode(f"{kind}:{name}".encode()).decode()


def _md5_key(digest: str) -> str:
    """The client's base64 as something that can stand in a URL."""
    return base64.b64decode(digest).hex()
