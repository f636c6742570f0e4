"""Everything this project says to Weights & Biases.

Made for Airflow tasks: each task is a process of its own, may be tried again, and must end. Hence

* online or offline is decided once, by the environment, and said in the log (``tracking_target``);
* a run has an id that the caller derives from the DAG run, so that a second try continues it instead of adding one;
* everything that talks to a server is bounded in time, and no process of wandb's outlives the run;
* what wandb writes lies in one folder per run and job, with the artifact's staged files, so that a run recorded offline
  can really be uploaded later;
* the key stays in the environment: nothing here reads it, except to blank it out of error messages.

What the bounds amount to is measured in tests/integration/wandb.
"""

import http.client
import json
import logging
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from include.errors import ConfigurationError, InputError
from include.object_store import sha256_hex
from include.settings import settings

HOSTED_URL = "https://api.wandb.ai"
MODEL_TYPE = "model"
SUMMARY_FILE = "summary.json"
LOCK_FILE = "lock"
MODEL_WAIT_SECONDS = 120
DOWNLOAD_SECONDS = 120

# What wandb reads from the environment only, or reads in its service process too. The user's own values win.
_BOUNDS = {
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_HTTP_TIMEOUT": "10",
    "WANDB_FINISH_TIMEOUT": "30",  # without it finish() waits for ever, and a killed task leaves wandb-core behind
    # by default 20 tries up to a minute apart, which WANDB_INIT_TIMEOUT does not cut short; Airflow tries again anyway
    "WANDB__GRAPHQL_RETRY_MAX": "4",
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "5",
}
_ALWAYS = {
    "WANDB_FINISH_TIMEOUT_RAISES": "true",  # else data that was not uploaded is a warning
    "WANDB__DISABLE_VIEWER": "true",  # an early query outside the bounds above
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",  # this module says what matters; a task's log has no use for banners
    "WANDB_CONSOLE": "off",  # nor does the run for a copy of the task's log, which may hold data
}
KNOCK_TIMES, KNOCK_SECONDS = 2, 5
_REFUSED = re.compile(
    r"\b40[134]\b|not found|not logged in|unauthori[sz]ed|permission|forbidden|key verification failed"
    r"|API key must|has not been initialized",  # the last: a run to be resumed that does not exist
    re.IGNORECASE,
)
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

log = logging.getLogger(__name__)


class TrackingUnavailable(ConnectionError):
    """W&B did not answer, or not in time: a retry may help."""


@dataclass(frozen=True)
class Target:
    """Where runs go, and why."""

    online: bool
    reason: str
    base_url: str
    project: str
    entity: str | None

    def __str__(self) -> str:
        where = f"online at {self.base_url}" if self.online else "offline"
        return f"{where}, because {self.reason}"


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


@dataclass(frozen=True)
class TrackedRun:
    """An open run: wandb's own object, and what this project wants to know about it."""

    run: Any
    target: Target
    place: Path  # everything of this run and job lies beneath it
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
        return shlex.join(["wandb", "sync", *(["--append"] if self.appends else []), str(self.folder)])


def _wandb() -> Any:
    import wandb

    return wandb


# Where to


def tracking_target(environ: Mapping[str, str] | None = None) -> Target:
    """Online with a key, offline without one; WANDB_MODE decides otherwise."""
    environ = os.environ if environ is None else environ
    has_key, mode = bool(environ.get("WANDB_API_KEY")), environ.get("WANDB_MODE") or None
    if mode is None:
        online, reason = has_key, "WANDB_API_KEY is set" if has_key else "WANDB_API_KEY is not set"
    elif mode in {"online", "offline"}:
        online, reason = mode == "online", f"WANDB_MODE={mode}"
    else:
        raise ConfigurationError(
            f"WANDB_MODE={mode} is not supported: set it to online or offline, or leave it out (online with"
            " WANDB_API_KEY, offline without)."
        )
    if online and not has_key:
        raise ConfigurationError(
            "WANDB_MODE=online needs WANDB_API_KEY, which is not set. Set it (hosted W&B: https://wandb.ai/authorize),"
            " or leave WANDB_MODE out to work offline."
        )
    return Target(
        online=online,
        reason=reason,
        base_url=environ.get("WANDB_BASE_URL") or HOSTED_URL,
        project=settings.wandb_project,
        entity=settings.wandb_entity,
    )


def run_id_for(*parts: str) -> str:
    """Derive a legal run id from parts, such as the id of a DAG and that of its run: the same whenever they are."""
    return sha256_hex("\0".join(parts).encode())[:16]


# Runs


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

    All is written below ``runs_folder``. What lies there for an online run is removed once the server has it all.
    """
    target = tracking_target()
    log.info("Weights & Biases: %s", target)
    if target.online:
        _check_reachable(target)
    place = _fresh_folder(run_id, job_type)
    # held while this process lives, however that ends
    with FileLock(place / LOCK_FILE), _environment(place):
        try:
            about = {"group": group, "name": name, "tags": list(tags) or None, "config": dict(config or {}) or None}
            # a resumed run keeps the job type under which it began
            about["job_type"] = None if resume and target.online else job_type
            tracked = _start(target, run_id, place, resume, about)
            try:
                # Only wandb's own errors: a time-out in the block is most likely somebody else's.
                with _explained(target, "tracking the run"):
                    yield tracked
            except BaseException:
                _finish_failed(tracked)
                raise
            _finish(tracked)
        finally:
            _end_service(place)
    if target.online:
        shutil.rmtree(place, ignore_errors=True)  # the server has it


def _check_reachable(target: Target) -> None:
    """Fail early where nobody answers: wandb.init alone takes a minute or more to find that out."""
    for left in reversed(range(KNOCK_TIMES)):
        try:
            urllib.request.urlopen(target.base_url, timeout=KNOCK_SECONDS).close()  # noqa: S310 (the user's own URL)
        except (urllib.error.HTTPError, http.client.HTTPException):
            return  # any answer will do
        except ValueError as error:
            raise ConfigurationError(f"WANDB_BASE_URL={target.base_url} is not a URL: {error}") from error
        except OSError as error:
            if isinstance(getattr(error, "reason", None), ssl.SSLError):
                return  # it answers; which certificates wandb trusts is for its own settings to say
            if not left:
                raise _explanation(error, target, "starting the run") from error
            time.sleep(1)
        else:
            return


def _start(target: Target, run_id: str, place: Path, resume: bool, about: dict[str, Any]) -> TrackedRun:
    # Offline, "resume" means nothing to wandb, which would say so in a warning.
    how = ("must" if resume else "allow") if target.online else None
    with _explained(target, "starting the run", TimeoutError, OSError):
        run = _wandb().init(
            mode="online" if target.online else "offline",
            project=target.project,
            entity=target.entity,
            id=run_id,
            resume=how,
            dir=place,
            settings=_wandb().Settings(disable_git=True, save_code=False, x_disable_stats=True),
            **about,
        )
    tracked = TrackedRun(run, target, place, appends=resume and not target.online)
    if tracked.online:
        log.info("W&B run: %s", tracked.link)
    elif resume:
        log.info("Offline, a run cannot be resumed: recording a second folder under the same id %s", run_id)
        run.summary.update(_earlier_summary(place))
    return tracked


def _keep_summary(tracked: TrackedRun) -> None:
    """Write down what _earlier_summary wants to know; offline, wandb itself does not in any readable form."""
    summary = {key: tracked.run.summary[key] for key in tracked.run.summary.keys()}  # noqa: SIM118 (it is no dict)
    plain = {key: value for key, value in summary.items() if isinstance(value, bool | int | float | str)}
    (tracked.place / SUMMARY_FILE).write_text(json.dumps(plain))


def _earlier_summary(place: Path) -> dict[str, Any]:
    """Read the figures of the run's other folders: "wandb sync --append" would drop all but those of the last one."""
    summary: dict[str, Any] = {}
    for path in sorted(place.parents[1].glob(f"*/*/{SUMMARY_FILE}")):
        summary |= json.loads(path.read_text())
    return {key: value for key, value in summary.items() if not key.startswith("_")}


def _finish(tracked: TrackedRun) -> None:
    """Wait until all is uploaded, within WANDB_FINISH_TIMEOUT."""
    try:
        with _explained(tracked.target, "finishing the run", TimeoutError, OSError):
            if not tracked.online:
                _keep_summary(tracked)
            tracked.run.finish()
    except TrackingUnavailable:
        log.error("The run is not uploaded completely. It is recorded in %s", tracked.folder)
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
        log.warning("W&B could not be told that the run failed: %s", _without_key(str(error)))


def _end_service(place: Path) -> None:
    """Stop wandb's service process, which would otherwise hold the task's log open, and drop its cache."""
    _wandb().teardown()
    shutil.rmtree(place / "cache", ignore_errors=True)


# Models


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
    artifact = _wandb().Artifact(name, type=MODEL_TYPE, metadata={"sha256": sha256, **(metadata or {})})
    # Beside the run, and "immutable", so that wandb takes them from there: what it stages itself is gone when this process
    # ends, and then "wandb sync" leaves the artifact out without failing.
    staged = tracked.place / "artifacts" / name
    staged.mkdir(parents=True, exist_ok=True)
    for file_name, file_content in files.items():
        (staged / file_name).write_bytes(file_content)
        artifact.add_file(str(staged / file_name), name=file_name, policy="immutable")
    doing = f"publishing {name}"
    with _explained(tracked.target, doing, TimeoutError, OSError):
        tracked.run.log_artifact(artifact, aliases=["latest"])
    if not tracked.online:
        return ModelReference(name, model_file, artifact.digest, sha256)
    with _explained(tracked.target, doing, TimeoutError, OSError, ValueError):  # a ValueError: what wandb-core reported
        artifact.wait(timeout=timeout)
    log.info("Published %s", artifact.qualified_name)
    return ModelReference(name, model_file, artifact.digest, sha256, artifact.version, artifact.qualified_name)


def fetch_model(tracked: TrackedRun, reference: ModelReference, *, timeout: float = DOWNLOAD_SECONDS) -> bytes:
    """Get the very model that was published from the server, and check it.

    wandb's download has no time-out and retries for 20 minutes in threads that nothing can stop, not even the task's
    execution_timeout. So another process downloads and is killed when its time is up.
    """
    if not tracked.online or reference.qualified_name is None:
        raise ConfigurationError(f"{reference.name} was published offline: take it from the object store")
    with _explained(tracked.target, f"using {reference.qualified_name}", TimeoutError, OSError):
        artifact = tracked.run.use_artifact(reference.qualified_name, type=MODEL_TYPE)  # also records the lineage
    if artifact.digest != reference.digest:
        raise InputError(f"{reference.qualified_name} on the server is not what was published: its digest differs.")
    with tempfile.TemporaryDirectory(prefix="wandb-model-") as place:
        root = _download_elsewhere(reference, Path(place), tracked.target, timeout)
        content = (root / reference.file).read_bytes()
    if sha256_hex(content) != reference.sha256:
        where = f"{reference.file} in {reference.qualified_name}"
        raise InputError(f"{where} is not what was published: its SHA-256 differs.")
    return content


def give_alias(tracked: TrackedRun, reference: ModelReference, alias: str) -> None:
    """Give a published version an alias; the server takes it from the version that has it."""
    with _explained(tracked.target, f"giving {reference.qualified_name} the alias {alias}", TimeoutError, OSError):
        artifact = _wandb().Api().artifact(str(reference.qualified_name), type=MODEL_TYPE)
        if alias not in artifact.aliases:
            artifact.aliases.append(alias)
            artifact.save()
    log.info("%s has the alias %s", reference.qualified_name, alias)


def _download_elsewhere(reference: ModelReference, place: Path, target: Target, timeout: float) -> Path:
    """Download and verify in a child process, within the time; return the folder of the files."""
    project_root = Path(__file__).parent.parent
    environ = {
        **os.environ,
        # its own cache, so that what is verified comes from the server
        **_folders(place),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(project_root), os.environ.get("PYTHONPATH")])),
    }
    root, verdict, noise = place / "files", place / "verdict.json", place / "noise.txt"
    command = [sys.executable, "-m", "include.wandb_tracking", str(reference.qualified_name), str(root), str(verdict)]
    command.append(str(int(timeout) + 2))  # when it ends by itself, should this process be killed
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
                f"{target.base_url} did not deliver {reference.qualified_name} within {timeout:.0f} s. Try again later,"
                " or look at the file storage behind that server."
            ) from None
    outcome = json.loads(verdict.read_text()) if verdict.exists() else {"error": noise.read_text()[-2000:]}
    if "mismatch" in outcome:
        raise InputError(f"{reference.qualified_name} arrived damaged or was tampered with: {outcome['mismatch']}")
    if "error" in outcome:
        raise _explanation(RuntimeError(outcome["error"]), target, f"downloading {reference.qualified_name}")
    return root


def _download(qualified_name: str, root: str, verdict: Path) -> None:
    """Be the child process: leave a verdict in a file."""
    try:
        artifact = _wandb().Api().artifact(qualified_name, type=MODEL_TYPE)
        artifact.download(root)
        try:
            artifact.verify(root)  # download() does not look at digests
        except ValueError as error:
            verdict.write_text(json.dumps({"mismatch": str(error)}), encoding="utf-8")
        else:
            verdict.write_text(json.dumps({}), encoding="utf-8")
    except Exception as error:  # it goes to the parent process, which knows what it means
        verdict.write_text(json.dumps({"error": _chain(error)}), encoding="utf-8")


# Plots


def log_images(tracked: TrackedRun, images: Mapping[str, bytes]) -> None:
    """Log PNGs in one step, byte for byte as they were drawn."""
    with tempfile.TemporaryDirectory() as place:
        logged: dict[str, Any] = {}
        for name, content in images.items():
            path = Path(place, f"{len(logged)}.png")
            path.write_bytes(content)
            logged[name] = _wandb().Image(str(path))
        with _explained(tracked.target, "logging plots"):
            tracked.run.log(logged)  # copies the files


def save_files(tracked: TrackedRun, files: Mapping[str, bytes]) -> None:
    """Put files beside the run, to be opened from its page."""
    with _explained(tracked.target, "saving files"):
        for name, content in files.items():
            path = Path(tracked.run.dir, name)
            path.write_bytes(content)
            tracked.run.save(str(path), base_path=tracked.run.dir, policy="now")


# Folders and environment


def runs_folder() -> Path:
    """Where the runs are recorded: WANDB_DIR, which must persist, or ``wandb`` in AIRFLOW_HOME."""
    fallback = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser() / "wandb"
    return Path(os.environ.get("WANDB_DIR") or fallback).absolute()


def _fresh_folder(run_id: str, job_type: str) -> Path:
    """Make a folder for this try; what former tries of the same job have left goes, unless one still runs.

    One does where Airflow has lost sight of a task and starts it again.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"{run_id!r} is not a run id: use letters, digits, - and _ (or run_id_for)")
    tries = runs_folder() / run_id / job_type
    try:
        tries.mkdir(parents=True, exist_ok=True)
        for former in tries.iterdir():
            if former.is_dir() and not _is_in_use(former):
                shutil.rmtree(former, ignore_errors=True)
        place = tries / f"try-{uuid.uuid4().hex[:8]}"
        place.mkdir()
    except OSError as error:  # wandb itself would silently take /tmp, which does not persist
        advice = "Set WANDB_DIR to a folder that persists."
        raise ConfigurationError(f"{tries} cannot be written ({error}). {advice}") from error
    return place


def _is_in_use(place: Path) -> bool:
    try:
        with FileLock(place / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True


def _folders(place: Path) -> dict[str, str]:
    """Everything that wandb writes goes beneath one folder, nothing into the home folder."""
    return {
        "WANDB_DIR": str(place),
        "WANDB_DATA_DIR": str(place / "data"),
        "WANDB_CACHE_DIR": str(place / "cache"),
        "WANDB_CONFIG_DIR": str(place / "config"),
    }


@contextmanager
def _environment(place: Path) -> Iterator[None]:
    """Put the settings for this run into the environment, because wandb's service process reads them too."""
    before = dict(os.environ)
    blank = [key for key, value in before.items() if key.startswith("WANDB_") and not value]
    for key in blank:  # as in a .env file with nothing filled in; wandb would take them for values
        del os.environ[key]
    for key, value in _BOUNDS.items():
        os.environ.setdefault(key, value)
    os.environ.update(_ALWAYS | _folders(place))
    try:
        yield
    finally:
        for key in [*_BOUNDS, *_ALWAYS, *_folders(place), *blank]:
            if key in before:
                os.environ[key] = before[key]
            else:
                os.environ.pop(key, None)


# Errors


@contextmanager
def _explained(target: Target, doing: str, *also: type[Exception]) -> Iterator[None]:
    """Turn wandb's errors, and others as given, into this project's: what to mend, or what may be tried again."""
    try:
        yield
    except Exception as error:
        # Half of what wandb raises is not a wandb.errors.Error.
        if isinstance(error, also) or type(error).__module__.partition(".")[0] == "wandb":
            raise _explanation(error, target, doing) from error
        raise


def _explanation(error: Exception, target: Target, doing: str) -> ConfigurationError | TrackingUnavailable:
    said = _without_key(_chain(error))
    if _REFUSED.search(said):
        return ConfigurationError(
            f"{target.base_url} refused access or knows no such thing ({doing}). Check WANDB_API_KEY (get one from that"
            " server's user settings, on hosted W&B https://wandb.ai/authorize), WANDB_ENTITY and WANDB_PROJECT."
            f" It said: {said}"
        )
    return TrackingUnavailable(
        f"{target.base_url} could not be reached or did not answer in time ({doing}). Check WANDB_BASE_URL and the"
        f" network and try again, or set WANDB_MODE=offline. It said: {said}"
    )


def _chain(error: BaseException | None) -> str:
    """Tell the error and what it came from: wandb hides "401" behind "an error occurred"."""
    said: list[str] = []
    while error is not None:
        text = str(error).strip()
        if text and text not in said:
            said.append(text)
        error = error.__cause__ or error.__context__
    return "; ".join(said)


def _without_key(text: str) -> str:
    key = os.environ.get("WANDB_API_KEY")
    return text.replace(key, "***") if key else text


if __name__ == "__main__":
    signal.alarm(int(sys.argv[4]))
    _download(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
