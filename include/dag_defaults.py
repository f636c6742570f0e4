"""Arguments that tasks share, by kind of task, each with its reason."""

from datetime import timedelta
from typing import Any

OWNER = "data-science"

# Services on a network are away at times: two more tries, the second after a longer pause. Bad input and bad
# configuration fail at once all the same (include/task_errors.py). Nothing here takes longer than a few minutes, so
# what still runs after fifteen hangs.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=15),
}
