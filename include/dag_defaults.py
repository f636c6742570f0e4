"""Arguments that tasks share, by kind of task, each with its reason."""

from datetime import timedelta
from typing import Any

from include.links import record_outcome
from include.notifications import FailureNotifier
from include.task_logs import quieten_libraries

OWNER = "data-science"

# What a small database and tracking server stand: so many runs of a DAG at once, and so many tasks over its runs. More
# workers do not change that; a larger server may.
MAX_ACTIVE_RUNS = 4
MAX_ACTIVE_TASKS = 8

# A service that is restarted may be away for half a minute and more: three more tries, after 10, 20 and 40 seconds and a
# bit. Bad input and bad configuration fail at once all the same (include/task_errors.py). Nothing here takes longer than
# a few minutes, so what still runs after fifteen hangs.
DEFAULT_ARGS: dict[str, Any] = {
    "owner": OWNER,
    "retries": 3,
    "retry_delay": timedelta(seconds=10),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=2),
    "execution_timeout": timedelta(minutes=15),
    "on_failure_callback": FailureNotifier(),
    # buttons in the UI that lead to what the task has made
    "post_execute": record_outcome,
    # the tasks say themselves what came out
    "show_return_value_in_logs": False,
}

# here, as every DAG file imports this module, and a task's process its DAG file
quieten_libraries()
