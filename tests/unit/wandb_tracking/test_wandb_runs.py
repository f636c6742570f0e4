"""What is decided of a run without talking to anybody; the rest is in tests/integration/wandb."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.wandb_tracking.runs import TrackedRun
from include.wandb_tracking.target import tracking_target


@pytest.mark.parametrize(("appends", "options"), [(False, ""), (True, "--id r1 ")])
def test_the_sync_command_can_be_pasted(appends, options):
    run = SimpleNamespace(id="r1", dir="/my runs/offline-run-1/files")
    tracked = TrackedRun(run, tracking_target({}), Path("/my runs"), appends)

    assert tracked.sync_command == f"wandb sync {options}'/my runs/offline-run-1'"
    assert tracked.link is None


@pytest.mark.parametrize("module", ["models", "server"])
def test_importing_the_modules_does_not_import_wandb(module):
    code = f"import sys, include.wandb_tracking.{module}; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
