"""The view of the buckets for the browser: what the S3 server keeps can be looked at by who has the login, and not changed."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.local_stack import RunningStack, await_that

BUCKET = "looked-at"
KEY = "folder/plot of a & b.html"
CONTENT = b"<p>plot</p>"


@pytest.fixture(scope="module")
def page(stack: RunningStack) -> str:
    """Where the browser finds an object."""
    stack.s3.create_bucket(Bucket=BUCKET)
    stack.s3.put_object(Bucket=BUCKET, Key=KEY, Body=CONTENT)
    return stack.stack.page_of(f"s3://{BUCKET}/{KEY}")


@pytest.fixture
def browser(stack: RunningStack) -> Iterator[httpx.Client]:
    """A client with the login."""
    with httpx.Client(auth=stack.stack.login, trust_env=False) as client:
        yield client


def test_object_is_shown_at_its_address(browser, page):
    answer = await_that(
        lambda: (found := browser.get(page)).status_code == 200 and found
    )  # the server looks once a second
    assert answer.content == CONTENT
    assert answer.headers["Content-Type"].startswith("text/html")


def test_link_of_a_task_leads_to_it(browser, stack, page, monkeypatch):
    """With the slashes of the key quoted, as other views want them."""
    from include import links
    from include.settings import Settings

    monkeypatch.setenv("PIPELINES_OBJECT_UI_URL", stack.environment["PIPELINES_OBJECT_UI_URL"])
    monkeypatch.setattr(links, "settings", Settings())
    await_that(lambda: browser.get(links.object_url(f"s3://{BUCKET}/{KEY}")).content == CONTENT)
    assert "plot of a &amp; b.html" in browser.get(links.object_url(f"s3://{BUCKET}/folder/")).text


def test_buckets_and_folders_are_listed(browser, stack, page):
    await_that(lambda: f"{BUCKET}/" in browser.get(stack.stack.objects_url).text)
    assert "folder/" in browser.get(f"{stack.stack.objects_url}/{BUCKET}/").text


@pytest.mark.parametrize("login", [None, ("admin", "admin"), ("admin", "")])
def test_nobody_sees_anything_without_the_login(page, login):
    answer = httpx.get(page, auth=login, trust_env=False)
    assert answer.status_code == 401
    assert CONTENT not in answer.content


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "MKCOL", "PROPFIND"])
def test_nothing_can_be_changed(browser, stack, page, method):
    assert browser.request(method, page, content=b"other").status_code == 405
    assert stack.object(f"s3://{BUCKET}/{KEY}") == CONTENT
