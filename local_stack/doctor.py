"""`make doctor`: the processes of the local stack, then all that tasks need, looked at as a task of this stack would."""

import os
import sys
import warnings

from rich.console import Console
from rich.text import Text

from local_stack import preflight, services
from local_stack.config import Ports, Stack

console = Console(highlight=False, soft_wrap=True)


def run(stack: Stack) -> int:
    """Print one line for each finding, with what mends it; the exit code is 0 only where there is nothing to mend."""
    if not services.is_running(stack):
        tell(False, "Local stack", "it does not run", "make start")
        # exits with a line of its own where a folder or port is in the way
        preflight.check_folder(stack)
        preflight.check_ports(Ports.from_environment())
        return 1
    healthy = True
    for name, problem in services.unhealthy(stack).items():
        healthy = False
        tell(False, f"Service {name}", problem, f"make logs SERVICE={name}, then make stop start")
    if healthy:
        tell(True, "Local stack", "all services answer")

    # as a task of this stack: its connections and settings, before Airflow is imported
    os.environ.update(stack.environment() | {"AIRFLOW__LOGGING__LOGGING_LEVEL": "CRITICAL"})
    os.chdir(stack.home)
    warnings.simplefilter("ignore")
    from include import doctor

    for label in doctor.checks():
        with console.status(label):
            finding = doctor.examine(label)
        healthy &= finding.healthy
        tell(finding.healthy, label, finding.found, finding.remedy)
    sys.stdout.flush()
    return 0 if healthy else 1


def tell(healthy: bool, label: str, found: str, remedy: str = "") -> None:
    """One line: mark, label, what was found, and what mends it."""
    line = Text.assemble(("ok    ", "green") if healthy else ("FAIL  ", "bold red"), (f"{label:<30}", "bold"), found)
    if remedy:
        line.append(". To mend it: ").append(remedy, "yellow")
    console.print(line)
