"""The helper that kills a function at one of its writes."""

import contextlib
import threading

import pytest

from tests.helpers.kills import Killed, kill_at, writes


class Store:
    def __init__(self) -> None:
        self.written: list[str] = []

    def put(self, what: str) -> None:
        self.written.append(what)

    def put_all(self, *parts: str) -> None:
        for each in parts:
            self.put(each)


TARGETS = [(Store, "put")]


@pytest.fixture
def store() -> Store:
    return Store()


def test_writes_are_named_in_their_order(store):
    assert writes(lambda: store.put_all("a", "b"), [(Store, "put"), (Store, "put_all")]) == ["put_all", "put", "put"]
    assert store.written == ["a", "b"]


@pytest.mark.parametrize(
    ("n", "after", "left"), [(1, False, []), (1, True, ["a"]), (2, False, ["a"]), (3, True, list("abc"))]
)
def test_nothing_is_written_from_the_chosen_write_on(store, n, after, left):
    with kill_at(n, TARGETS, after=after):
        store.put_all("a", "b", "c")

    assert store.written == left
    store.put("later")  # the next try
    assert store.written == [*left, "later"]


def test_neither_handlers_nor_finally_write_after_it(store):
    with kill_at(1, TARGETS):
        try:
            with contextlib.suppress(Exception):
                store.put("a")
        finally:
            store.put("b")

    assert store.written == []


def test_it_counts_over_threads_and_ends_all_of_them(store):
    def work() -> None:
        with contextlib.suppress(Killed):
            store.put_all("a", "b", "c")

    with kill_at(2, TARGETS):
        threads = [threading.Thread(target=work) for _ in range(2)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    assert len(store.written) == 1


def test_a_block_that_writes_less_or_fails_by_itself_is_no_kill(store):
    with pytest.raises(AssertionError, match="write 2 should be what makes 1 writes only"), kill_at(2, TARGETS):
        store.put("a")
    with pytest.raises(ZeroDivisionError), kill_at(2, TARGETS):
        store.put(str(1 / 0))
