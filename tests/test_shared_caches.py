"""A token never goes into a cache that others read from. Set-Cookie alone does not keep a response out of one."""

from __future__ import annotations

import pytest
from aiohttp import web
from multidict import CIMultiDict

from aiohttp_persistent_session import MemoryBackend
from aiohttp_persistent_session.caching import is_meant_for_shared_caches, keep_private
from aiohttp_persistent_session.tokens import Token

from .browser import DAY, TOKEN, Browser, Clock, Workers


@pytest.fixture
async def browser(workers: Workers) -> Browser:
    """``/cc`` answers with the Cache-Control, and the other fields, that its query asks for."""

    async def handler(request: web.Request) -> web.Response:
        headers: CIMultiDict[str] = CIMultiDict()
        for name, value in request.query.items():
            headers.add(name, value)
        return web.Response(headers=headers)

    browser = Browser(await workers(MemoryBackend(), handlers={"/cc": handler}))
    await browser.sign_in()
    return browser


PUBLIC = [
    "public",
    "Public, max-age=60",
    "max-age=60, s-maxage=600",
    "S-MAXAGE=1",
    "max-age=5,public",
    'public, ext="a,b"',
]


@pytest.mark.parametrize("value", PUBLIC)
async def test_a_response_marked_for_shared_caches_is_not_renewed(browser: Browser, value: str) -> None:
    """What its handler gives to everybody carries nobody's token."""
    reply = await browser.get("/cc", params={"Cache-Control": value})
    assert TOKEN not in reply.cookies
    assert reply.headers["Cache-Control"] == value


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("public", "private"),
        ("Public, max-age=60", "max-age=60, private"),
        ("max-age=60, s-maxage=600", "max-age=60, private"),
        ("public, no-store", "no-store"),
        ('public, ext="a,public"', 'ext="a,public", private'),
    ],
)
async def test_a_new_token_makes_it_private_with_a_warning(
    browser: Browser, value: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The token must be sent, so the response cannot be shared; the log names the path."""
    browser.end_session()
    reply = await browser.get("/cc", params={"Cache-Control": value})
    assert reply.token
    assert reply.headers.getall("Cache-Control") == [kept]
    assert "/cc" in caplog.text
    assert "made private" in caplog.text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "private"),
        ("max-age=60", "max-age=60, private"),
        ("no-cache", "no-cache, private"),
        ("private", "private"),
        ("Private, max-age=60", "Private, max-age=60"),
        ("no-store", "no-store"),
        ("must-understand, no-store", "must-understand, no-store, private"),
        ('private="X-Field"', 'private="X-Field", private'),
        ('no-cache="Set-Cookie"', 'no-cache="Set-Cookie", private'),
        ("", "private"),
        ("max-age=60,,", "max-age=60, private"),
    ],
)
@pytest.mark.parametrize("kind", ["renewed", "new"])
async def test_every_other_response_with_a_token_is_private(
    browser: Browser, value: str | None, expected: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Set-Cookie alone keeps a response out of no cache (RFC 9111, 7.3)."""
    if kind == "new":
        browser.end_session()
    reply = await browser.get("/cc", params={} if value is None else {"Cache-Control": value})
    assert reply.token
    assert reply.headers.getall("Cache-Control") == [expected]
    assert not caplog.records


@pytest.mark.parametrize(
    "name",
    [
        "CDN-Cache-Control",
        "Cloudflare-CDN-Cache-Control",
        "vercel-cdn-cache-control",
        "Surrogate-Control",
        "Edge-Control",
        "X-Accel-Expires",
    ],
)
async def test_a_field_that_addresses_a_cdn_counts_as_public(browser: Browser, name: str) -> None:
    """RFC 9213: it overrides Cache-Control for whom it addresses."""
    reply = await browser.get("/cc", params={name: "max-age=600", "Cache-Control": "private"})
    assert TOKEN not in reply.cookies
    assert reply.headers[name] == "max-age=600"
    browser.end_session()
    reply = await browser.get("/cc", params={name: "max-age=600", "Cache-Control": "private"})
    assert reply.token
    assert name not in reply.headers


async def test_the_deletion_is_kept_out_too(browser: Browser) -> None:
    """From a shared cache it would sign others out."""
    reply = await browser.post("/logout")
    assert reply.token == ""
    assert reply.headers["Cache-Control"] == "private"


async def test_a_response_without_a_token_is_left_as_it_is(browser: Browser) -> None:
    """Nothing is changed that carries nothing of ours."""
    reply = await Browser(browser.worker).get("/cc", params={"Cache-Control": "public, max-age=60"})
    assert reply.headers["Cache-Control"] == "public, max-age=60"
    assert "Cache-Control" not in (await Browser(browser.worker).get("/cc")).headers


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        (["max-age=1", "public"], True),
        (["private", "s-maxage=9"], True),
        (["max-age=1", "must-revalidate"], False),
        (['ext="public"'], False),
        (["publicity"], False),
        (["public;odd"], True),
        (['"unbalanced, public'], True),
    ],
)
def test_fields_that_come_apart_or_malformed_are_read_as_one(fields: list[str], shared: bool) -> None:
    """A cache that reads generously must not find leave where we found none."""
    headers = CIMultiDict([("Cache-Control", field) for field in fields])
    assert is_meant_for_shared_caches(headers) is shared
    keep_private(headers)
    assert not is_meant_for_shared_caches(headers)
    assert "private" in headers["Cache-Control"]
    assert len(headers.getall("Cache-Control")) == 1


async def test_a_rotated_token_makes_it_private_too(
    browser: Browser, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Every new token counts, whatever it was issued for."""
    clock.advance(DAY + 61)
    token = browser.token
    reply = await browser.get("/cc", params={"Cache-Control": "public, max-age=60"})
    assert reply.token not in (None, token)
    assert reply.headers["Cache-Control"] == "max-age=60, private"
    assert "made private" in caplog.text


async def test_a_response_to_a_join_may_be_shared(browser: Browser) -> None:
    """It carries no token."""
    browser.end_session()
    tab = browser.clone()
    await browser.get()
    reply = await tab.get("/cc", params={"Cache-Control": "public, max-age=60"})
    assert (reply.cookies, reply.headers["Cache-Control"]) == ({}, "public, max-age=60")


async def test_the_deletion_of_a_copys_cookie_makes_it_private(browser: Browser) -> None:
    """From a shared cache it would sign others out."""
    selector = (browser.token or "").partition(".")[0]
    wrong = f"{selector}.{Token.generate().cookie_value.partition('.')[2]}"
    reply = await Browser(browser.worker, {TOKEN: wrong}).get("/cc", params={"Cache-Control": "public"})
    assert (reply.token, reply.headers["Cache-Control"]) == ("", "private")


async def test_what_the_handler_puts_on_a_renewed_response_is_kept(browser: Browser) -> None:
    """Only what a shared cache reads as leave is taken back, and only where a token must be sent."""
    reply = await browser.get("/cc", params={"Cache-Control": "max-age=60, immutable", "Vary": "Accept"})
    assert reply.token == browser.token
    assert (reply.headers["Cache-Control"], reply.headers["Vary"]) == ("max-age=60, immutable, private", "Accept")
