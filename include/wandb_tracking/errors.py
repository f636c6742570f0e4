"""Whose fault an error of W&B's is: what the user must correct fails at once, what may pass is retried.

Sorted by type, by the errno of the disk and by the HTTP status of the server. wandb-core, the process that talks to the server
for wandb, hides that status from whoever calls it; then it is taken from wandb-core's log (``core_log``).
"""

import base64
import errno
import json
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from include.errors import ConfigurationError, InputError
from include.wandb_tracking import core_log
from include.wandb_tracking.target import AUTHORIZE, Target

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# how the Go libraries in wandb-core write an answer of the server, and that there has been none
_ANSWER = re.compile(r"(?:returned error|status:|failed to upload:) (\d{3})\b(.*)", re.DOTALL)
_GAVE_UP = re.compile(r"POST (\S+) giving up after \d+ attempt\(s\)(?!:)")
_UNTRUSTED = "tls: failed to verify certificate"
_GRAPHQL_ERROR = re.compile(r"(?:^|: )input: (.*)", re.DOTALL)


class TrackingUnavailable(ConnectionError):
    """W&B did not answer, or not in time: a retry may help."""


class Refused(ConfigurationError):
    """The server has answered no, with this HTTP status."""

    def __init__(self, answer: str, status: int, advice: str) -> None:
        super().__init__(f"{answer} {advice}")
        self.answer, self.status = answer, status


class ModelDeleted(InputError):
    """The published version is no longer in W&B."""


@contextmanager
def explained(target: Target, doing: str, place: Path, *, of_others: bool = False) -> Iterator[None]:
    """Turn the errors of calls to wandb, and of writing below ``place``, into this project's.

    With ``of_others`` the block has other calls too, so that only errors of wandb's own types are meant.
    """
    try:
        yield
    except (ConfigurationError, InputError, TrackingUnavailable):
        raise
    except Exception as error:
        # half of what wandb raises is not a wandb.errors.Error
        if _library(error) == "wandb" or (not of_others and isinstance(error, OSError | ValueError | TypeError)):
            raise explanation(error, target, doing, place) from shown(error)
        raise


@contextmanager
def existing(qualified_name: str) -> Iterator[None]:
    """Raise ModelDeleted where wandb finds that the server has no such version, artifact or project."""
    try:
        yield
    except Exception as error:
        # wandb has a ValueError for it where the server has answered with nothing; a ValidationError is an odd answer
        found_nothing = isinstance(hidden := getattr(error, "exc", None), ValueError)
        if (found_nothing and not isinstance(hidden, ValidationError)) or _status(error) in (404, 410):
            raise ModelDeleted(
                f"{qualified_name} is no longer in W&B, somebody has deleted it: restore it there, or publish the model again"
                f" by a new run of the DAG. It said: {without_key(_chain_text(error))}"
            ) from shown(error)
        raise


def explanation(error: Exception, target: Target, doing: str, place: Path) -> Exception:
    """What the user is told of an error of wandb's."""
    said = without_key(_chain_text(error))
    if target.online and (answer := _answer(error, said, place)):
        return refused(target, doing, *answer)
    if _is_of_disk(error, said):
        return disk_problem(place, doing, said)
    if target.online and _UNTRUSTED in said:
        return untrusted(target, doing, said)
    if problem := _of_values(error, doing, said):
        return ConfigurationError(problem)
    # builtin ConnectionErrors are of the way to wandb-core: those of the network are of requests, or told by wandb-core
    if target.online and not isinstance(error, ConnectionError):
        return unreachable(target, doing, said)
    return TrackingUnavailable(f"wandb could not record the run in {place} ({doing}). Try again. It said: {said}")


def refused(target: Target, doing: str, status: int, said: str) -> Exception:
    """What an answer with an HTTP status of 400 or more, or one that is an error all the same, means."""
    answer = f"{target.base_url} answered with HTTP {status} ({doing}): {_words(without_key(said))}."
    if is_temporary(status):
        return TrackingUnavailable(f"{answer} Try again later, or set WANDB_MODE=offline.")
    if status == 401:
        return Refused(answer, status, f"Check WANDB_API_KEY ({AUTHORIZE}).")
    entity = f"WANDB_ENTITY={target.entity}" if target.entity else "WANDB_ENTITY, which is not set"
    advice = f"Check WANDB_PROJECT={target.project}, {entity}, and what the key's owner may do there."
    return Refused(answer, status, advice)


def is_temporary(status: int) -> bool:
    """Whether a server that answers with this HTTP status may answer otherwise later."""
    return status in {408, 425, 429} or status >= 500


def unreachable(target: Target, doing: str, said: str) -> TrackingUnavailable:
    """No answer at all, or none in time."""
    return TrackingUnavailable(
        f"{target.base_url} could not be reached or did not answer in time ({doing}). Check WANDB_BASE_URL, the network and"
        f" its proxy (HTTPS_PROXY, NO_PROXY) and try again, or set WANDB_MODE=offline. It said: {without_key(said)}"
    )


def untrusted(target: Target, doing: str, said: str) -> ConfigurationError:
    """No TLS connection, as the server's certificate is unknown or another's, or as it does not speak TLS."""
    return ConfigurationError(
        f"{target.base_url} cannot be trusted ({doing}): {without_key(said)}. Where its certificate is of an authority of your"
        " own, set both SSL_CERT_FILE and REQUESTS_CA_BUNDLE to a file with it; otherwise correct WANDB_BASE_URL."
    )


def disk_problem(place: Path, doing: str, said: str) -> ConfigurationError:
    """The folder of the run cannot be written."""
    return ConfigurationError(
        f"{place} cannot be written ({doing}): {without_key(said)}. Make room there and let this user write, or set WANDB_DIR"
        " to another folder that persists."
    )


def without_key(text: str) -> str:
    """The text without the key, as it is and as HTTP sends it."""
    if key := os.environ.get("WANDB_API_KEY"):
        for secret in (key, base64.b64encode(f"api:{key}".encode()).decode()):
            text = text.replace(secret, "***")
    return text


def shown(error: Exception) -> Exception | None:
    """The error as the cause of another, unless its traceback would show the key."""
    text = "".join(traceback.format_exception(error))
    return error if without_key(text) == text else None


def _answer(error: BaseException, said: str, place: Path) -> tuple[int, str] | None:
    """HTTP status and words of the server's answer behind an error; None where it has not answered."""
    if status := _status(error):
        return status, said
    if _is_a(error, "AuthenticationError") and not error.__cause__:  # with one, it was only the asking that failed
        return 401, said
    # wandb.init tells the words without the status, and this log has both
    said = core_log.why_no_start(place) or said
    if found := _ANSWER.search(said):
        return int(found[1]), found[2]
    if (gave_up := _GAVE_UP.search(said)) and (retried := core_log.last_retried(place, gave_up[1])):
        return retried
    if found := _GRAPHQL_ERROR.search(said):
        return 200, found[1]
    return None


def _status(error: BaseException) -> int | None:
    """The HTTP status that an error in the chain carries."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        if status := getattr(response, "http_status", None) or getattr(response, "status_code", None):
            return int(status)
    return None


def _words(said: str) -> str:
    """The messages in GraphQL's JSON, or the beginning of anything else."""
    start = said.find("{")
    try:
        errors = json.loads(said[start:])["errors"] if start >= 0 else []
        messages = [each if isinstance(each, str) else each["message"] for each in errors]
    except (ValueError, KeyError, TypeError):
        messages = []
    words = "; ".join(messages) or " ".join(said.split())[:300]
    return words.strip(" :.") or "no reason given"


def _is_of_disk(error: BaseException, said: str) -> bool:
    if any(isinstance(each, OSError) and (each.filename or each.errno in _DISK_FULL) for each in _local(error)):
        return True
    # wandb-core has no errno to tell
    return any(os.strerror(number).lower() in said.lower() for number in _DISK_FULL)


def _of_values(error: Exception, doing: str, said: str) -> str | None:
    """What wandb does not like of what it was given, by a variable of the environment or by this project."""
    if isinstance(error, ValidationError):
        return f"wandb cannot use {'; '.join(_variable(each) for each in error.errors())}"
    values = ValueError | TypeError
    if not (isinstance(error, values) or isinstance(getattr(error, "exc", None), values) or _is_a(error, "UsageError")):
        return None
    names = [name for name, value in os.environ.items() if name.startswith("WANDB_") and repr(value) in said]
    return f"wandb refuses this ({doing}): {said}" + (f". Check {', '.join(names)}" if names else "")


def _local(error: BaseException) -> Iterator[BaseException]:
    """The errors of this machine in the chain: those behind one of an HTTP client are of the network."""
    for each in _chain(error):
        if _library(each) in {"requests", "urllib3"}:
            return
        yield each


def _variable(problem: Mapping[str, Any]) -> str:
    """One variable of the environment that wandb cannot use, by its name, and what is wrong with it."""
    value = problem["input"]
    names = [name for name, text in os.environ.items() if name.startswith("WANDB_") and text == value]
    where = " or ".join(names) or ".".join(map(str, problem["loc"]))
    return f"{where}={without_key(str(value))}: {problem['msg']}"


def _is_a(error: BaseException, kind: str) -> bool:
    """Whether the error is of that class of wandb's, which may be what cannot be imported."""
    return any(each.__name__ == kind for each in type(error).__mro__)


def _library(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _chain_text(error: BaseException) -> str:
    """What the error and those that it came from say, each once."""
    return "; ".join(dict.fromkeys(filter(None, (str(each).strip() for each in _chain(error)))))
