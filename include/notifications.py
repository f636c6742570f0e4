"""What happens when a task has failed for good: a line in the log, and a message to whomever PIPELINES_NOTIFY_URL names."""

import logging
from typing import Any

from airflow.sdk import BaseNotifier

from include.settings import settings

log = logging.getLogger(__name__)

SECONDS = 15  # for a message to be taken
LONGEST_REASON = 300  # characters; the log has it all


class FailureNotifier(BaseNotifier):
    """Airflow's notifier for ``on_failure_callback``: logs a line, and sends it where an Apprise URL says.

    Apprise knows Slack, e-mail and a hundred other services, each by a URL with the credentials in it
    (https://github.com/caronc/apprise/wiki); several URLs are separated by spaces. The URL never is in a log.
    """

    def notify(self, context: Any) -> None:
        """Tell which task failed and why; a message that cannot be sent is said in the log, and no more."""
        message = describe_failure(context)
        log.error(message)
        if settings.pipelines.notify_url:
            title = f"Airflow: {context['ti'].dag_id} has failed"
            body = f"{message}\nLog: {context['ti'].log_url}"
            if problem := send(settings.pipelines.notify_url.get_secret_value(), title=title, body=body):
                log.error("No message was sent: %s", problem)


def describe_failure(context: Any) -> str:
    """One line: DAG, task with its label, tries, run, and the reason's first line."""
    ti = context["ti"]
    reason = str(context.get("exception") or "no reason given, its process was lost or killed").strip()
    first_line = reason.splitlines()[0] if reason else type(context["exception"]).__name__
    if len(first_line) > LONGEST_REASON:
        first_line = f"{first_line[:LONGEST_REASON]}..."
    task = f"{ti.dag_id}.{ti.task_id}"
    if ti.map_index >= 0:
        task += f" ({ti.rendered_map_index or ti.map_index})"
    return f"{task} has failed at try {ti.try_number} of run {ti.run_id}: {first_line}"


def send(url: str, *, title: str, body: str) -> str | None:
    """Send a message through Apprise, within SECONDS; return what went wrong, without the URL."""
    import apprise

    if problem := understood(url):
        return f"{problem[0]}: {problem[1]}"
    target = apprise.Apprise(url.split())
    if not target.notify(title=title, body=body, notify_type=apprise.NotifyType.FAILURE, timeout=SECONDS):
        return f"{_services(url)} did not take it: check PIPELINES_NOTIFY_URL and the network"
    return None


def understood(url: str) -> tuple[str, str] | None:
    """None where Apprise can work with the URL, else problem and remedy, both without the URL."""
    import apprise
    from airflow.sdk.log import mask_secret

    mask_secret(url)
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its messages name the URL
    if not url.split() or not all(apprise.Apprise.instantiate(each) for each in url.split()):
        problem = f"Apprise does not understand PIPELINES_NOTIFY_URL ({_services(url)})"
        return problem, "write it as in https://github.com/caronc/apprise/wiki"
    return None


def _services(url: str) -> str:
    """The URLs' schemes; the rest is secret."""
    return ", ".join(each.partition("://")[0] if "://" in each else "not a URL" for each in url.split())
