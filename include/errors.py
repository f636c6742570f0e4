"""The errors that a retry cannot fix, and what errors of any kind come from."""

from collections.abc import Iterator


class InputError(ValueError):
    """Bad input data: the message names the file, the column and the rows, and says what to do."""


class ConfigurationError(ValueError):
    """Bad configuration: the message names the connection or variable and says what to do."""


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes, as in a traceback: without what ``raise ... from None`` has suppressed."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def first_line(error: BaseException) -> str:
    """The first line of the error's message, without the full stop."""
    return " ".join(next(iter(str(error).strip().splitlines()), "").split()).rstrip(".")
