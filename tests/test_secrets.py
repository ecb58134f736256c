"""Nothing that signs anybody in is in a log, a repr, an exception, a pickle or the store."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import re
import traceback
from base64 import b64encode, urlsafe_b64encode
from dataclasses import asdict, fields

import pytest
from aiohttp import web

from aiohttp_persistent_session import PersistentSession, Record, Secret, remember, rules
from aiohttp_persistent_session.lifecycle import Result
from aiohttp_persistent_session.policy import Policy
from aiohttp_persistent_session.record import Browser as BrowserInfo
from aiohttp_persistent_session.rules import Moment, Outcome
from aiohttp_persistent_session.testing import make_record
from aiohttp_persistent_session.tokens import Token, digest

from .browser import SIGNALS, TOKEN, Browser, Clock, Worker, Workers
from .faults import FaultyBackend

SOMEBODY = BrowserInfo("Test/1.0", "192.0.2.1")


def spellings(token: str) -> list[str]:
    """Every way in which a half of the token might have been written down."""
    parsed = Token.parse(token)
    assert parsed
    raw = (parsed.selector, parsed.secret)
    texts = [part for half in raw for part in (half.hex(), b64encode(half).decode(), repr(half)[2:-1])]
    return [*token.split("."), *(urlsafe_b64encode(half).decode() for half in raw), *texts]


class Life:
    """A browser that goes through all that can happen to a token, and every token that there was."""

    def __init__(self, worker: Worker, backend: FaultyBackend, clock: Clock) -> None:
        self.browser = Browser(worker)
        self.tokens: set[str] = set()
        self._backend = backend
        self._clock = clock

    async def get(self, path: str = "/me", *, by: Browser | None = None) -> None:
        browser = by or self.browser
        browser.take(await browser.send("GET", path))
        self.tokens.add(browser.token or "")

    async def sign_in(self) -> None:
        async with asyncio.timeout(10):
            while (await self.browser.post("/login", data={"user": "alice"})).status != 302:
                await asyncio.sleep(0.01)  # until the store is found to answer again
        self.tokens.add(self.browser.token or "")

    async def restores(self) -> None:
        """Exchange, fail to, join, be late, rotate, and leave a thief behind."""
        await self.sign_in()
        await self.get("/die")
        await self.sign_in()
        copy = self.browser.clone()
        self.browser.user_agent = "Other/1.0"
        for path in ("/me", "/me?fail", "/me", "/slow"):
            self._clock.advance(3)
            self.browser.end_session()
            await self.get(path)
        for pause in (5, 30, 61, 95):
            self._clock.advance(pause)
            await self.get()
        copy.end_session()
        await self.get(by=copy)
        await self.get()

    async def repeats(self) -> None:
        """Lose each answer, and be refused in the end."""
        await self.sign_in()
        self.browser.end_session()
        for _ in range(3):
            self._clock.advance(12)
            self.tokens.add((await self.browser.send("GET", "/me")).token or "")
        await self.get("/devices")
        self.tokens.add((await self.browser.post("/logout-everywhere?keep=1")).token or "")
        self._clock.advance(12)
        self.browser.end_session()
        await self.get("/me?refuse")

    async def outages(self) -> None:
        """Present, sign out and sign in while the store fails, and while it hangs."""
        for fault in (self._backend.break_down, self._backend.hang):
            await self.sign_in()
            fault()
            self.browser.end_session()
            await self.get()
            await self.browser.send("POST", "/logout")
            await self.browser.send("POST", "/login", data={"user": "alice"})
            self._backend.heal()


async def whole_life(workers: Workers, backend: FaultyBackend, clock: Clock) -> set[str]:
    """Return every token that there was."""

    async def login_and_die(request: web.Request) -> web.Response:
        await remember(request, "alice")
        raise ZeroDivisionError

    async def validate(request: web.Request, _: object) -> bool:
        if "fail" in request.query:
            raise ZeroDivisionError
        return "refuse" not in request.query

    async def slow(_: web.Request) -> web.Response:
        clock.advance(20)
        return web.Response()

    handlers = {"/die": login_and_die, "/slow": slow}
    worker = await workers(backend, handlers=handlers, validate=validate, timeout=0.05, rotate_interval=60)
    life = Life(worker, backend, clock)
    await life.restores()
    await life.repeats()
    await life.outages()
    assert {name for name, _ in worker.events} == set(SIGNALS)
    return life.tokens - {""}


async def test_no_log_line_at_debug_level_holds_a_secret(
    workers: Workers, backend: FaultyBackend, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever happens to a token, its text is in no message, no argument and no traceback."""
    caplog.set_level(logging.DEBUG)
    tokens = await whole_life(workers, backend, clock)
    assert len(tokens) >= 10
    logged = caplog.text + "".join(repr(record.args) + str(record.__dict__) for record in caplog.records)
    assert "aiohttp_persistent_session" in logged
    for token in tokens:
        for text in spellings(token):
            assert text not in logged


async def test_the_store_holds_no_secret(workers: Workers, backend: FaultyBackend, clock: Clock) -> None:
    """Digests alone: whoever reads the store can sign in as nobody."""
    dump = ""
    insert, replace = backend.insert, backend.replace

    def note(record: Record) -> None:
        nonlocal dump
        dump += repr(record) + str(asdict(record))
        dump += json.dumps(asdict(record), default=lambda raw: b64encode(raw).decode())

    async def noted_insert(record: Record) -> None:
        note(record)
        await insert(record)

    async def noted_replace(record: Record) -> bool:
        note(record)
        return await replace(record)

    backend.insert, backend.replace = noted_insert, noted_replace  # type: ignore[method-assign]  # what is written is noted
    tokens = await whole_life(workers, backend, clock)
    assert dump
    for token in tokens:
        for text in spellings(token):
            assert text not in dump


def test_no_repr_holds_a_secret_or_a_digest() -> None:
    """Tokens show their id; records, verdicts and results do not show what they are compared with."""
    token = Token.generate()
    record = make_record(id=token.id, secrets=(Secret(token.digest, 0.0),))
    new = token.with_new_secret()
    moment = Moment(record.seen_at, Policy(), SOMEBODY, new.digest)
    verdict = rules.restore(record, token.digest, moment)
    result = Result(verdict.outcome, verdict.record, new, verdict.session)
    shown = repr([token, record, result, *record.secrets]) + f"{token} {record} {result}"
    for text in [*spellings(token.cookie_value), *spellings(new.cookie_value)]:
        assert text not in shown
    for raw in (token.digest, new.digest):
        assert repr(raw)[2:-1] not in repr([token, record, result, *record.secrets])


def test_a_token_is_not_pickled_or_copied_into_a_cache() -> None:
    """What pickles it would put it where nobody guards it."""
    token = Token.generate()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled") as caught:
            pickle.dumps(token, protocol)
        assert not any(text in str(caught.value) for text in spellings(token.cookie_value))
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy(token)
    with pytest.raises(TypeError):
        json.dumps(token)


def test_no_exception_of_the_rules_holds_a_secret() -> None:
    """A mistake of ours ends in a traceback, which is logged."""
    token = Token.generate()
    record = make_record(id=token.id, secrets=(Secret(token.digest, 0.0),))
    with pytest.raises(AttributeError) as caught:
        rules.restore(record, token.digest, Moment(record.seen_at, None, SOMEBODY, token.digest))  # type: ignore[arg-type]  # the mistake
    text = "".join(traceback.format_exception(caught.value))
    for spelling in [*spellings(token.cookie_value), repr(token.digest)[2:-1]]:
        assert spelling not in text


def test_what_is_shown_of_a_persistent_session_has_no_secret_in_it() -> None:
    """No digest either: an application may put it into a page."""
    names = {field.name for field in fields(PersistentSession)}
    assert not names & {"secrets", "secret", "digest", "token", "selector", "revision"}
    record = make_record()
    shown = repr(PersistentSession.of(record, record.expires_at))
    assert repr(record.secrets[0].digest)[2:-1] not in shown


async def test_the_id_is_safe_to_show(worker: Worker, browser: Browser) -> None:
    """It cannot be presented in the selector's place, not even to get somebody signed out."""
    await browser.sign_in()
    id = (await browser.get()).json["id"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", id)
    assert id not in (browser.token or "")
    for last in "AQgw":
        for value in (f"{id[:21]}{last}.{'A' * 43}", f"{id}.{'A' * 43}"):
            reply = await Browser(worker, {TOKEN: value}).get()
            assert reply.cookies == {}
            await Browser(worker, {TOKEN: value}).post("/logout")
    browser.end_session()
    assert (await browser.get()).user == "alice"


def test_a_reader_of_the_store_cannot_compute_a_secret() -> None:
    """The successor is random: nothing that is stored, and no secret of before, leads to it."""
    token = Token.generate()
    successors = [token.with_new_secret() for _ in range(100)]
    assert len({one.secret for one in successors}) == 100
    assert {one.selector for one in successors} == {token.selector}
    assert {len(one.secret) for one in successors} == {32}
    assert token.secret not in {one.secret for one in successors}


def test_a_digest_is_sha_256() -> None:
    """FIPS 180-4, example of one block."""
    assert digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_what_is_presented_cannot_be_the_digest_that_is_stored() -> None:
    """A stolen store is no stolen token: the digest, presented as a secret, is a copy."""
    token = Token.generate()
    record = make_record(id=token.id, secrets=(Secret(token.digest, 0.0),))
    forged = Token(token.selector, token.digest)
    moment = Moment(record.seen_at, Policy(), SOMEBODY, None)
    assert rules.restore(record, forged.digest, moment).outcome is Outcome.REUSE


async def test_one_browsers_token_is_never_in_anothers_response(worker: Worker) -> None:
    """Neither in a header nor in the list of devices."""
    alice, bob = Browser(worker), Browser(worker)
    await alice.sign_in("alice")
    reply = await bob.sign_in("bob")
    assert alice.token not in str(reply.headers)
    assert alice.token not in (await bob.get("/devices")).text
