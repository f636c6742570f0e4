import pytest

from include.run_key import run_key


@pytest.mark.parametrize(
    ("run_id", "key"),
    [
        ("manual__2026-11-20T09:21:41.804591+00:00", "manual__2026-11-20T09-21-41.804591-00-00"),
        ("my run/with ../ slashes", "my-run-with-..-slashes"),
        ("größe", "gr-e"),
        ("plain_Name-1.2=3", "plain_Name-1.2=3"),
    ],
)
def test_key_is_one_plain_folder_name(run_id, key):
    assert run_key(run_id) == key


def test_keys_of_two_runs_a_microsecond_apart_differ():
    assert run_key("manual__2026-11-20T09:21:41.000001+00:00") != run_key("manual__2026-11-20T09:21:41.000002+00:00")
