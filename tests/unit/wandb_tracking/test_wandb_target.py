"""Where runs go, and what is refused before anything is recorded."""

import pytest

from include.errors import ConfigurationError
from include.wandb_tracking.target import run_id_for, tracking_target

KEY = "k" * 40


@pytest.mark.parametrize(
    ("environ", "online", "reason"),
    [
        ({}, False, "WANDB_API_KEY is not set"),
        ({"WANDB_API_KEY": ""}, False, "WANDB_API_KEY is not set"),
        ({"WANDB_API_KEY": KEY}, True, "WANDB_API_KEY is set"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": ""}, True, "WANDB_API_KEY is set"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, True, "WANDB_MODE=online"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, False, "WANDB_MODE=offline"),
        ({"WANDB_MODE": "offline"}, False, "WANDB_MODE=offline"),
    ],
)
def test_the_environment_decides_and_the_reason_is_given(environ, online, reason):
    target = tracking_target(environ)

    assert (target.online, target.reason) == (online, reason)
    assert KEY not in str(target)


def test_online_without_a_key_is_an_error_that_says_where_to_get_one():
    with pytest.raises(ConfigurationError, match=r"WANDB_API_KEY.*https://wandb.ai/authorize"):
        tracking_target({"WANDB_MODE": "online"})


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("disabled", "disabled"),
        ("dryrun", "dryrun"),
        ("shared", "shared"),
        ("Online", "Online"),
        ("offline ", "'offline '"),
        ('"offline"', "'\"offline\"'"),
        (" ", "' '"),
    ],
)
def test_other_modes_are_refused_as_they_are_written(mode, shown):
    with pytest.raises(ConfigurationError, match=f"WANDB_MODE={shown} is not supported"):
        tracking_target({"WANDB_MODE": mode, "WANDB_API_KEY": KEY})


# as wandb checks them: the old kind, a self-hosted server's, the new kind, a token
KEYS = ["0123456789abcdef" * 2 + "01234567", f"local-{KEY}", "wandb_v1_" + "Ab1_" * 20, "head.pay-load.signature"]


@pytest.mark.parametrize("key", KEYS)
def test_every_kind_of_key_is_accepted(key):
    assert tracking_target({"WANDB_API_KEY": key}).online


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (f"{KEY} ", "blank or a line break"),
        (f" {KEY}", "blank or a line break"),
        (f"{KEY}\n", "blank or a line break"),
        (f"{KEY}\r", "blank or a line break"),
        (" ", "blank or a line break"),
        (f"'{KEY}'", "quotes"),
        (f'"{KEY}"', "quotes"),
        ("<your-wandb-api-key>", "is no key"),
        (KEY[1:], "this one has 39 characters"),
        (f"local-{KEY[1:]}", "is no key"),
        (f"{KEY} {KEY}", "is no key"),
        ("é" * 40, "is no key"),
    ],
    ids=repr,
)
def test_a_key_that_cannot_be_one_is_refused_and_not_shown(key, said):
    with pytest.raises(ConfigurationError, match=said) as raised:
        tracking_target({"WANDB_API_KEY": key})
    assert "WANDB_API_KEY" in str(raised.value)
    assert key.strip("'\" \r\n<>") not in str(raised.value) or not key.strip()


def test_nothing_is_refused_that_wandb_accepts():
    from wandb.sdk.lib.wbauth.validation import check_api_key

    refused_by_both = [f"{KEY} ", f"'{KEY}'", KEY[1:], f"local-{KEY[1:]}", f"{KEY}\n", "a.b"]
    assert [check_api_key(key) for key in KEYS] == [None] * len(KEYS)
    assert all(check_api_key(key) for key in refused_by_both)


def test_key_and_address_do_not_matter_offline():
    target = tracking_target({"WANDB_MODE": "offline", "WANDB_API_KEY": f"{KEY} ", "WANDB_BASE_URL": "no url"})
    assert str(target) == "offline, because WANDB_MODE=offline"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        (None, "https://api.wandb.ai"),
        ("", "https://api.wandb.ai"),
        ("http://here:8080", "http://here:8080"),
        ("https://here/", "https://here"),  # as it is recorded with a model
        ("https://here/wandb", "https://here/wandb"),
        ("https://acme.wandb.io", "https://acme.wandb.io"),
        ("https://api.wandb.ai/", "https://api.wandb.ai"),
    ],
)
def test_the_base_url_is_the_hosted_one_unless_given(given, used):
    environ = {"WANDB_API_KEY": KEY} | ({} if given is None else {"WANDB_BASE_URL": given})
    assert tracking_target(environ).base_url == used


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("wandb.example.com", "WANDB_BASE_URL=wandb.example.com is not a URL"),
        ("wandb.example.com:8080", "WANDB_BASE_URL=wandb.example.com:8080 is not a URL"),
        ("https://wandb.example.com ", "WANDB_BASE_URL='https://wandb.example.com ' is not a URL"),
        (" https://wandb.example.com", "WANDB_BASE_URL=' https://wandb.example.com' is not a URL"),
        ("'https://wandb.example.com'", "WANDB_BASE_URL=.*is not a URL"),
        ("https://wandb example.com", "WANDB_BASE_URL='https://wandb example.com' is not a URL"),
        ("https://", "WANDB_BASE_URL=https:// is not a URL"),
        ("ftp://wandb.example.com", "WANDB_BASE_URL=ftp://wandb.example.com is not a URL"),
        ("https://wandb.example.com:port", "WANDB_BASE_URL=https://wandb.example.com:port is not a URL"),
        ("https://wandb.example.com/?a=b", r"WANDB_BASE_URL='https://wandb.example.com/\?a=b' is not a URL"),
        ("https://wandb.ai", "WANDB_BASE_URL=https://wandb.ai .* that is https://api.wandb.ai"),
        ("https://app.wandb.ai", "WANDB_BASE_URL=https://app.wandb.ai .* that is https://api.wandb.ai"),
        ("http://api.wandb.ai", "WANDB_BASE_URL=http://api.wandb.ai .* that is https://api.wandb.ai"),
    ],
)
def test_an_address_that_cannot_be_a_servers_is_refused(url, shown):
    with pytest.raises(ConfigurationError, match=shown):
        tracking_target({"WANDB_BASE_URL": url, "WANDB_API_KEY": KEY})


def test_a_login_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ConfigurationError, match="WANDB_BASE_URL has a login in it") as raised:
        # pragma: allowlist nextline secret, because it is an example
        tracking_target({"WANDB_BASE_URL": "https://me:s3cret@wandb.example.com", "WANDB_API_KEY": KEY})
    assert "s3cret" not in str(raised.value)


def test_a_run_id_is_the_same_for_the_same_parts_only():
    made = run_id_for("customer_analytics", "scheduled__2026-11-20T00:00:00+00:00")

    assert made == run_id_for("customer_analytics", "scheduled__2026-11-20T00:00:00+00:00")
    assert made != run_id_for("customer_analyticss", "cheduled__2026-11-20T00:00:00+00:00")
    assert made != run_id_for("copy_of_customer_analytics", "scheduled__2026-11-20T00:00:00+00:00")
    assert made.isalnum()
