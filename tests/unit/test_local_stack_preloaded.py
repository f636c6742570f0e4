"""What the processes that others are forked from import beforehand."""

import subprocess
import sys

from local_stack.config import PROJECT

NEW = """
import runpy
import sys
from pathlib import Path
from local_stack import preloaded
preloaded.preload()
before = {name.partition(".")[0] for name in sys.modules}
for file in Path("dags").glob("*.py"):
    runpy.run_path(str(file))
print(sorted({name.partition(".")[0] for name in sys.modules} - before - {*sys.stdlib_module_names}))
"""
OWN = """
import sys
from local_stack import preloaded
preloaded.preload()
print(sorted(name for name in sys.modules if name.startswith(("include.", "plugins."))))
"""


def said(code: str) -> str:
    """The last line that the code prints, of its output; its errors are for people."""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DeprecatedImportWarning" not in done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_reading_the_dag_files_imports_no_further_package():
    assert said(NEW) == "[]"


def test_the_projects_own_code_is_read_anew_by_each_task():
    """But for the repairs, which come before anything else, and the settings, which the stack itself reads."""
    assert said(OWN) == "['include.errors', 'include.legacy_packages', 'include.settings']"
