"""The download of an artifact, in a process of its own that can be killed.

wandb's download has no time-out and retries for 20 minutes in threads that nothing can stop, not even the task's
execution_timeout.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from include.errors import ConfigurationError, InputError
from include.settings import INCLUDE
from include.wandb_tracking.errors import ModelDeleted, TrackingUnavailable, existing, explained, without_key
from include.wandb_tracking.target import tracking_target
from include.wandb_tracking.workspace import folders

if TYPE_CHECKING:
    from include.wandb_tracking.runs import TrackedRun

# what the child can tell its parent, the special before the general
_OUTCOMES = (ModelDeleted, InputError, ConfigurationError, TrackingUnavailable)


def download(qualified_name: str, folder: Path, tracked: "TrackedRun", timeout: float) -> None:
    """Download the artifact to ``folder``/files and verify it, within ``timeout`` seconds.

    Raises InputError where it is not what the server says that it is.
    """
    environ = {
        **os.environ,
        # its own cache, so that what is verified comes from the server
        **folders(folder),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(INCLUDE.parent), os.environ.get("PYTHONPATH")])),
    }
    # when it ends by itself, should this process be killed
    limit = str(int(timeout) + 2)
    command = [sys.executable, "-m", __name__, qualified_name, str(folder), str(tracked.place), limit]
    noise = folder / "noise.txt"
    with noise.open("wb") as output:  # not a pipe: wandb-core inherits it and would keep it open
        try:
            subprocess.run(
                command,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TrackingUnavailable(
                f"{tracked.target.base_url} did not deliver {qualified_name} within {timeout:.0f} s. Try again later,"
                " or look at the file storage behind that server."
            ) from None
    if not (verdict := folder / "verdict.json").exists():
        said = without_key(noise.read_text(errors="replace"))[-2000:]
        raise TrackingUnavailable(f"The process that downloads {qualified_name} has ended early. It said: {said}")
    outcome = json.loads(verdict.read_text(encoding="utf-8"))
    if outcome:
        raise next(each for each in _OUTCOMES if each.__name__ == outcome["error"])(outcome["message"])


def _be_the_child(qualified_name: str, folder: Path, place: Path) -> None:
    """Download, verify, and leave a verdict in a file."""
    verdict = {}
    try:
        with explained(tracking_target(), f"downloading {qualified_name}", place), existing(qualified_name):
            import wandb

            artifact = wandb.Api().artifact(qualified_name)
            artifact.download(str(folder / "files"))
            try:
                artifact.verify(str(folder / "files"))  # download() does not look at digests
            except ValueError as error:
                raise InputError(f"{qualified_name} arrived damaged or was tampered with: {error}") from error
    except _OUTCOMES as error:
        kind = next(each for each in _OUTCOMES if isinstance(error, each))
        verdict = {"error": kind.__name__, "message": str(error)}
    (folder / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")


if __name__ == "__main__":
    signal.alarm(int(sys.argv[4]))
    _be_the_child(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
