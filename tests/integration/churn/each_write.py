"""Kill a task of the churn pipeline at each of its writes, try it again, and compare with one undisturbed try."""

from collections.abc import Callable
from functools import partial
from typing import Any

from tests.helpers.kills import Target, kill_at, object_writes, writes


def churn_writes() -> list[Target]:
    """What the tasks write with: to the object store, and to Weights & Biases."""
    from wandb.sdk.artifacts.artifact import Artifact
    from wandb.sdk.wandb_run import Run
    from wandb.sdk.wandb_summary import Summary

    return [
        *object_writes(),
        *((Run, name) for name in ("log", "log_artifact", "save", "finish")),
        (Summary, "update"),
        (Artifact, "save"),  # which gives it aliases
    ]


def differences(
    task: Callable[[], Any],
    targets: list[Target],
    *,
    state: Callable[[], Any],
    reset: Callable[[], None],
    first: int = 1,
    run: Callable[[Callable[[], Any]], Any] = lambda function: function(),
) -> tuple[list[str], dict[str, Any]]:
    """What the task writes with, in its order, and after which kills another try does not return and leave the same.

    Args:
        task: what is tried.
        targets: see tests.helpers.kills.
        state: all that the task leaves.
        reset: makes it what it was before the task.
        first: the first write at which the task is killed.
        run: runs one try.

    """

    def watched() -> tuple[list[str], Any]:
        returned: list[Any] = []
        return writes(lambda: returned.append(task()), targets), returned[0]

    def kill(n: int, after: bool) -> None:
        with kill_at(n, targets, after=after):
            task()

    names, returned = run(watched)
    wanted = (returned, state())
    found = {}
    # after one write is before the next
    kills = [(n, False) for n in range(first, len(names) + 1)] + [(len(names), True)]
    for n, after in kills:
        reset()
        run(partial(kill, n, after))
        left = (run(task), state())
        if left != wanted:
            found[f"{'after' if after else 'before'} {n}, {names[n - 1]}"] = (left, wanted)
    return names, found
