"""A stack of its own for a test of the stack itself."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.local_stack import LocalStack


def stack_of_its_own() -> "Iterator[LocalStack]":
    """A state folder and ports of their own, with nothing started; whatever is started there is ended."""
    from tests.support.local_stack import LocalStack, short_folder

    stack = LocalStack(short_folder())
    try:
        yield stack
    finally:
        stack.stop()
        shutil.rmtree(stack.home, ignore_errors=True)  # `clean` may have removed it


@pytest.fixture
def other_stack() -> "Iterator[LocalStack]":
    """A stack of its own for one test."""
    yield from stack_of_its_own()
