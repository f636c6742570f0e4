"""Whether the W&B server answers, and knows the key."""

import os
import re
import time
from typing import Any

from include.errors import ConfigurationError
from include.wandb_tracking.errors import (
    TrackingUnavailable,
    is_temporary,
    refused,
    unreachable,
    untrusted,
    without_key,
)
from include.wandb_tracking.target import Target

KNOCK_TIMES, KNOCK_SECONDS = 2, 5


def log_in(target: Target, doing: str) -> str:
    """The name of the key's owner, from the server itself.

    wandb.init alone takes a minute or more to find out that nobody answers, and tells a wrong address or an untrusted
    certificate from an outage only in its own logs. Raises TrackingUnavailable or ConfigurationError.
    """
    for left in reversed(range(KNOCK_TIMES)):
        try:
            return _ask(target, doing)
        except TrackingUnavailable:
            if not left:
                raise
            time.sleep(1)
    raise AssertionError


def _ask(target: Target, doing: str) -> str:
    answer = _post(target, doing)
    status = answer.status_code
    if status == 407:
        raise _proxy_refuses(target, status, doing)
    if status == 401 or is_temporary(status):
        raise refused(target, doing, status, answer.text)
    if not _is_graphql(answer):
        kind = answer.headers.get("content-type", "no content type").partition(";")[0]
        raise ConfigurationError(
            f"{target.base_url} is not the address of a W&B server ({doing}): {without_key(answer.url)} answers with HTTP"
            f" {status}, {kind}. Correct WANDB_BASE_URL, which most often has no path behind host and port; or a proxy or"
            " login page is in between."
        )
    if status >= 400:
        raise refused(target, doing, status, answer.text)
    viewer = (answer.json().get("data") or {}).get("viewer")
    if not viewer:
        raise refused(target, doing, 401, answer.text if answer.json().get("errors") else "it does not know the key")
    return str(viewer.get("username"))


def _post(target: Target, doing: str) -> Any:
    import requests

    try:
        return requests.post(
            f"{target.base_url}/graphql",
            json={"query": "query Viewer { viewer { username } }"},
            auth=("api", os.environ["WANDB_API_KEY"]),
            timeout=KNOCK_SECONDS,
        )
    except requests.exceptions.SSLError as error:
        problem: Exception = untrusted(target, doing, str(error))
    except ValueError:  # it may quote a proxy with its password
        problem = ConfigurationError(
            f"WANDB_BASE_URL={target.base_url}, or the proxy before it (HTTPS_PROXY, HTTP_PROXY), is not a URL ({doing})."
        )
    except OSError as error:
        found = re.search(r"Tunnel connection failed: (\d{3})", str(error))
        problem = _proxy_refuses(target, int(found[1]), doing) if found else unreachable(target, doing, str(error))
    # out here, so that no error of requests is behind it: include.task_errors would take that for MLflow's
    raise problem


def _is_graphql(answer: Any) -> bool:
    try:
        return isinstance(content := answer.json(), dict) and ("data" in content or "errors" in content)
    except ValueError:
        return False


def _proxy_refuses(target: Target, status: int, doing: str) -> ConfigurationError:
    return ConfigurationError(
        f"The proxy before {target.base_url} refuses with HTTP {status} ({doing}). Correct HTTPS_PROXY or HTTP_PROXY, with its"
        " login; or name the host in NO_PROXY."
    )
