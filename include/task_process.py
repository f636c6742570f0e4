"""How a task's process is watched: closes what Airflow 3.3 leaves open, at the one place it offers, ``[sdk] coordinators``.

A coordinator runs in the executor's process, beside the task's. This one does what Airflow's own for Python does, and besides

- keeps a task's log out of the scheduler's output, where LocalExecutor copies it with secrets unmasked;
- ends as soon as the process has ended. Where its sockets close a moment before, Airflow waits for
  ``workers.min_heartbeat_interval``, 5 s, and as long nobody else gets the slot;
- ends what a killed process has left, before the task may be tried again;
- ends LocalExecutor's worker after its task where the scheduler was killed meanwhile: it would wait for work for ever;
- tells who is to be told of a task whose process was killed and that is not tried again. Airflow calls
  ``on_failure_callback`` in the task's process, so for this one never (https://github.com/apache/airflow/issues/60858).

Set it for the queue that tasks run in:
``AIRFLOW__SDK__COORDINATORS={"task_process": {"classpath": "include.task_process.TaskCoordinator"}}`` and
``AIRFLOW__SDK__QUEUE_TO_COORDINATOR={"default": "task_process"}``.
"""

import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from airflow.sdk import TaskInstanceState
from airflow.sdk.execution_time.coordinator import BaseCoordinator
from airflow.sdk.execution_time.supervisor import ActivitySubprocess
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from include.notifications import FailureNotifier

POLL = 0.02  # seconds between looks at a process that has closed its sockets


class TaskProcess(ActivitySubprocess):
    """Airflow's watched process of a task."""

    def _service_subprocess(self, max_wait_time: float, **options: Any) -> int | None:
        """Wait for what the process has to say, or for its end; without sockets nothing but a look tells that."""
        return super()._service_subprocess(max_wait_time if self._open_sockets else POLL, **options)

    def update_task_state_if_needed(self) -> None:
        """Store the outcome, having ended what a process that did not end by itself has left running."""
        if self._exit_code:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        super().update_task_state_if_needed()
        if self._exit_code and self.final_state == TaskInstanceState.FAILED:
            self._tell()

    def _tell(self) -> None:
        try:
            # as Airflow makes it for callbacks outside of the task's process
            ti = RuntimeTaskInstance.model_construct(
                **self.ti.model_dump(exclude_unset=True), rendered_map_index=self._rendered_map_index
            )
            FailureNotifier().notify({"ti": ti})
        except Exception:
            self.process_log.exception("Nobody could be told of the failure")


class TaskCoordinator(BaseCoordinator):
    """Runs a task in a TaskProcess."""

    def execute_task(self, *, subprocess_logs_to_stdout: bool, **task: Any) -> BaseCoordinator.ExecutionResult:  # noqa: ARG002
        """Start the task, wait for its end, and return how it ended."""
        process = TaskProcess.start(**task)
        result = self.ExecutionResult(process.wait(), process.final_state)
        scheduler = multiprocessing.parent_process()
        if scheduler and scheduler.pid != os.getppid():
            sys.exit()
        return result
