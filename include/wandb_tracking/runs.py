"""A run in Weights & Biases: started, continued by a later task, finished; its pictures and files."""

import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from include.errors import ConfigurationError
from include.wandb_tracking import core_log
from include.wandb_tracking.errors import (
    Refused,
    TrackingUnavailable,
    disk_problem,
    explained,
    explanation,
    shown,
    without_key,
)
from include.wandb_tracking.server import log_in
from include.wandb_tracking.target import Target, tracking_target
from include.wandb_tracking.workspace import LOCK_FILE, environment, fresh_folder

KEPT_FILE = "config-and-summary.json"
_STARTING, _FINISHING = "starting the run", "finishing the run"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """An open run: wandb's own object, and what this project wants to know about it."""

    run: Any
    target: Target
    place: Path  # everything of this run and job is stored beneath it
    appends: bool  # a second folder for a run that another one began

    @property
    def online(self) -> bool:
        """Whether a server holds this run."""
        return self.target.online

    @property
    def link(self) -> str | None:
        """The run's page, as wandb names it; None when offline."""
        return self.run.url if self.online else None

    @property
    def folder(self) -> Path:
        """Where wandb writes this run."""
        return Path(self.run.dir).parent

    @property
    def sync_command(self) -> str:
        """What uploads the folder, run and artifact."""
        return shlex.join(["wandb", "sync", *(["--id", self.run.id] if self.appends else []), str(self.folder)])

    def explained(self, doing: str, *, of_others: bool = False) -> AbstractContextManager[None]:
        """Turn errors of calls to wandb into this project's; see include.wandb_tracking.errors."""
        return explained(self.target, doing, self.place, of_others=of_others)


@contextmanager
def tracked_run(
    run_id: str,
    *,
    job_type: str,
    group: str | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> Iterator[TrackedRun]:
    """Open a run, which is finished when the block ends, as failed if the block raises.

    Called again with the same id and job type it continues that run (online) or replaces what former tries wrote
    (offline). With ``resume`` the run must exist already, begun under another job type; offline that cannot be, so what
    this block logs goes to a second folder under the same id, to be appended when it is uploaded; in there use
    ``run.summary`` rather than ``run.log``, whose steps begin at 0 again.

    All is written below ``runs_folder``. What is stored there for an online run is removed once the server has it all.

    Raises TrackingUnavailable where a retry may help, ConfigurationError where the user must do something.
    """
    target = tracking_target()
    log.info("Weights & Biases: %s", target)
    if target.online:
        log_in(target, _STARTING)
    place = fresh_folder(run_id, job_type)
    # held while this process lives, however that ends
    with FileLock(place / LOCK_FILE), environment(place, online=target.online):
        with explained(target, _STARTING, place):
            import wandb  # noqa: F401 (reads the environment, and fails where it does not like it)
        try:
            about = {"group": group, "name": name, "tags": list(tags) or None, "config": dict(config or {}) or None}
            # a resumed run keeps the job type under which it began
            about["job_type"] = None if resume and target.online else job_type
            tracked = _start(target, run_id, place, resume, about)
            try:
                # Only wandb's own errors: a time-out in the block is most likely somebody else's.
                with tracked.explained("tracking the run", of_others=True):
                    yield tracked
            except BaseException:
                _finish_failed(tracked)
                raise
            _finish(tracked)
        finally:
            _end_service(place)
    if target.online:
        shutil.rmtree(place, ignore_errors=True)  # the server has it


def _start(target: Target, run_id: str, place: Path, resume: bool, about: dict[str, Any]) -> TrackedRun:
    # Offline, "resume" means nothing to wandb, which would say so in a warning.
    how: Literal["must", "allow"] | None = ("must" if resume else "allow") if target.online else None
    try:
        with explained(target, _STARTING, place):
            import wandb

            try:
                run = wandb.init(
                    mode="online" if target.online else "offline",
                    project=target.project,
                    entity=target.entity,
                    id=run_id,
                    resume=how,
                    dir=place,
                    settings=wandb.Settings(disable_git=True, save_code=False, x_disable_stats=True),
                    **about,
                )
            except wandb.errors.UsageError as error:
                if how != "must":
                    raise
                raise ConfigurationError(
                    f"{target.base_url} does not have the run {run_id} that this DAG run began in project {target.project}:"
                    " somebody has deleted it, or WANDB_BASE_URL, WANDB_PROJECT or WANDB_ENTITY is another one now. Restore"
                    f" that, or trigger a new DAG run. It said: {without_key(str(error))}"
                ) from shown(error)
    except Refused as error:
        if error.status != 409:
            raise
        # an id that was used and deleted is never given again
        raise ConfigurationError(
            f"The run {run_id} of this DAG run was deleted in W&B. Restore it there, or trigger a new DAG run, which gets a run"
            f" of its own. {error.answer}"
        ) from error
    tracked = TrackedRun(run, target, place, appends=resume and not target.online)
    if tracked.online:
        log.info("W&B run: %s", tracked.link)
    elif resume:
        log.info("Offline, a run cannot be resumed: recording a second folder under the same id %s", run_id)
        with tracked.explained(_STARTING):
            earlier = _of_earlier_folders(place)
            run.config.update(earlier["config"])
            run.summary.update(earlier["summary"])
    return tracked


def _keep_for_later_folders(tracked: TrackedRun) -> None:
    """Write down what _of_earlier_folders wants to know; offline, wandb itself does not in any readable form."""
    summary = {key: tracked.run.summary[key] for key in tracked.run.summary.keys()}  # noqa: SIM118 (it is no dict)
    plain = {key: value for key, value in summary.items() if isinstance(value, bool | int | float | str)}
    kept = {"config": tracked.run.config.as_dict(), "summary": plain}
    (tracked.place / KEPT_FILE).write_text(json.dumps(kept, default=str), encoding="utf-8")


def _of_earlier_folders(place: Path) -> dict[str, dict[str, Any]]:
    """Read config and figures of the run's other folders: "wandb sync" would drop all but those of the last one."""
    earlier: dict[str, dict[str, Any]] = {"config": {}, "summary": {}}
    for path in sorted(place.parents[1].glob(f"*/*/{KEPT_FILE}")):
        for part, values in json.loads(path.read_text(encoding="utf-8")).items():
            earlier[part] |= {key: value for key, value in values.items() if not key.startswith("_")}
    return earlier


def _finish(tracked: TrackedRun) -> None:
    """Wait until all is uploaded, within WANDB_FINISH_TIMEOUT; raises where wandb has lost something."""
    try:
        with tracked.explained(_FINISHING):
            if not tracked.online:
                _keep_for_later_folders(tracked)
            tracked.run.finish()
        if said := core_log.not_saved(tracked.place):
            raise disk_problem(tracked.place, _FINISHING, said)
        if tracked.online and (said := core_log.not_uploaded(tracked.place)):
            raise explanation(RuntimeError(said), tracked.target, _FINISHING, tracked.place)
    except (ConfigurationError, TrackingUnavailable):
        log.error("The run is not complete. What there is of it is recorded in %s", tracked.folder)
        raise
    if tracked.online:
        log.info("W&B run finished: %s", tracked.link)
        return
    log.info("The run is recorded in %s", tracked.folder)
    first = " (after the folder that this run began with)" if tracked.appends else ""
    log.info("To upload it, artifact included, with WANDB_API_KEY set%s: %s", first, tracked.sync_command)


def _finish_failed(tracked: TrackedRun) -> None:
    """Finish as failed without hiding why."""
    try:
        tracked.run.finish(exit_code=1)
    except Exception as error:  # whatever it is, what made the block fail matters more
        log.warning("That the run has failed is not recorded: %s", without_key(str(error)))


def _end_service(place: Path) -> None:
    """Stop wandb's service process, which would otherwise hold the task's log open, and drop its cache.

    wandb's own logs stay where the run is incomplete. A server may have sent back the key, which then is in them.
    """
    import wandb

    wandb.teardown()
    shutil.rmtree(place / "cache", ignore_errors=True)
    core_log.rewrite(place, without_key)


def log_images(tracked: TrackedRun, images: Mapping[str, bytes]) -> None:
    """Log PNGs in one step, byte for byte as they were drawn."""
    with tracked.explained("logging pictures"), tempfile.TemporaryDirectory(dir=tracked.place) as folder:
        import wandb

        logged: dict[str, Any] = {}
        for name, content in images.items():
            path = Path(folder, f"{len(logged)}.png")
            path.write_bytes(content)
            logged[name] = wandb.Image(str(path))
        tracked.run.log(logged)  # copies the files


def save_files(tracked: TrackedRun, files: Mapping[str, bytes]) -> None:
    """Put files beside the run, to be opened from its page."""
    with tracked.explained("saving files"):
        for name, content in files.items():
            path = Path(tracked.run.dir, name)
            path.write_bytes(content)
            tracked.run.save(str(path), base_path=tracked.run.dir, policy="now")
