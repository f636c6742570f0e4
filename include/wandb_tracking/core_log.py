"""What the logs of wandb-core tell, and nobody else: why a request was refused, and what of a run was lost.

wandb-core, wandb's service process, writes JSON lines. The words looked for are those of the locked version of wandb; the tests
in tests/integration/wandb would notice others.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

# Data that are not uploaded for one of these reasons: wandb itself takes no notice and finishes the run.
_NOT_UPLOADED = (
    "filestream: fatal error",
    "file transfer: upload: ",
    "runfiles: CreateRunFiles returned error",
    "runupserter: failed to upload changes",
)
_NOT_SAVED = "writer: failed to save record"


def why_no_start(place: Path) -> str | None:
    """Why the run below ``place`` could not be started."""
    return next(
        (str(entry["error"]) for entry in _newest_first(place) if entry["msg"] == "runupserter: failed to init run"),
        None,
    )


def last_retried(place: Path, url: str) -> tuple[int, str] | None:
    """Status and body of the newest answer from this address upon which wandb-core tried again."""
    for entry in _newest_first(place):
        if entry["msg"] == "api: retrying HTTP error" and entry.get("url") == url:
            return int(entry["status"]), str(entry.get("body", ""))
    return None


def not_uploaded(place: Path) -> str | None:
    """The reason why something of the run did not get to the server; None where all did."""
    for entry in _newest_first(place):
        if entry["msg"].startswith(_NOT_UPLOADED):
            return f"{entry['msg']}: {entry['error']}" if "error" in entry else str(entry["msg"])
    return None


def not_saved(place: Path) -> str | None:
    """The reason why something of the run is not in its folder; None where all is."""
    return next((entry["msg"] for entry in _newest_first(place) if entry["msg"].startswith(_NOT_SAVED)), None)


def rewrite(place: Path, change: Callable[[str], str]) -> None:
    """Rewrite wandb's logs below ``place`` where that changes them."""
    for path in place.rglob("*.log"):
        if path.is_symlink():
            continue
        text = path.read_text(errors="replace")
        if (changed := change(text)) != text:
            path.write_text(changed, encoding="utf-8")


def _newest_first(place: Path) -> Iterator[dict[str, Any]]:
    entries = []
    for pattern in ("wandb/*run-*/logs/debug-internal.log", "cache/wandb/logs/*.log"):
        for path in place.glob(pattern):
            for line in path.read_text(errors="replace").splitlines():
                with suppress(ValueError):
                    entries.append(json.loads(line))
    return iter(sorted((each for each in entries if isinstance(each, dict) and "msg" in each), key=_time, reverse=True))


def _time(entry: dict[str, Any]) -> str:
    return str(entry.get("time", ""))
