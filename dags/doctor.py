"""Is everything there that the other DAGs need? What it does, for its readers in the UI: include/docs/doctor.md."""

import logging
from datetime import datetime

from airflow.sdk import dag, task

from include.dag_defaults import DEFAULT_ARGS
from include.doctor import checks
from include.errors import ConfigurationError
from include.settings import INCLUDE
from include.task_errors import fail_at_once

log = logging.getLogger("airflow.task")


@dag(
    schedule=None,
    start_date=datetime(2023, 1, 1),
    catchup=False,
    default_args=DEFAULT_ARGS,
    tags=["doctor"],
    doc_md=str(INCLUDE / "docs" / "doctor.md"),
)
def doctor() -> None:
    @task(map_index_template="{{ task.op_kwargs['label'] }}")
    @fail_at_once
    def check(label: str) -> None:
        """Look at one service or setting, in bounded time; where something is wrong, the log ends with what mends it."""
        from include.doctor import examine

        finding = examine(label)
        if not finding.healthy:
            raise ConfigurationError(f"{label}: {finding.found}. To mend it: {finding.remedy}")
        log.info("%s: %s", label, finding.found)

    # Airflow gives a mapped task none of its function's docstring
    check.override(doc_md=check.__wrapped__.__doc__).expand(label=list(checks()))


doctor()
