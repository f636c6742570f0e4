"""Stacks for the tests of the stack itself."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.local_stack import LocalStack


@pytest.fixture
def other_stack() -> "Iterator[LocalStack]":
    """A state folder and ports of their own, with nothing started; whatever a test starts there is ended."""
    from tests.support.local_stack import LocalStack, short_folder

    stack = LocalStack(short_folder())
    yield stack
    stack.stop()
    shutil.rmtree(stack.home, ignore_errors=True)  # `clean` may have removed it
