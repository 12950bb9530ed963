"""Four worker processes that share a Redis keep their promises together: also where a worker dies,
and where Redis is killed, hangs, or can't be reached.

With `pytest -rP`, one sees how long things took.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import count, islice
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

import pytest
import redis
from anyio.to_thread import run_sync
from frames import with_longest_wait
from handshakes import mint, now
from logouts import FORM, LOGOUT
from redis_servers import Proxy, RedisServer, redis_server
from servers import DEADLINE, EVERYTHING, VARIANTS, Seen, Server, serving
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from asgi_wsauth import Credential

pytestmark = [pytest.mark.anyio, pytest.mark.live]

WORKERS = 4
MANY = 5 if EVERYTHING else 1  # times as many clients at once
LEASE = 15.0  # seconds; more than anything waits for here, so that no slot ends by itself
# So long that no test waits for their renewal, which would find what no notice has told.
SESSIONS_LEASE = 60.0
TIMEOUT = 5.0  # seconds that an Authenticator has

EXPIRED = (4001, "token_expired")
REVOKED = (4004, "token_revoked")
TOO_MANY = (1013, "too_many_connections")
UNAVAILABLE = (1013, "verifier_unavailable")

_TROUBLE = re.compile(
    r"Traceback|Exception|never (awaited|retrieved)|was destroyed|Warning:", re.IGNORECASE
)

_numbers = count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# The processes.


@dataclass
class Site:
    """Workers, and the Redis that they share. The last worker reaches it over `link`."""

    redis: RedisServer
    link: Proxy
    workers: list[Server]
    excused: set[str] = field(default_factory=set)

    def left_behind(self) -> set[str]:
        """Slots and sessions in Redis that closed sockets should have taken with them."""
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            keys = list(client.scan_iter(count=1000))
            endless = [key for key in keys if client.pttl(key) == -1]
        assert not endless
        left = {key for key in keys if re.search(r":slots:.*:(order|lapse)$|:sessions:", key)}
        return left - self.excused

    def excuse_what_is_left(self) -> None:
        """Redis was asked for slots, or to take them back, when it could not answer: they will end
        with their lease."""
        self.excused |= self.left_behind()


def working(
    url: str,
    *arguments: str,
    lease: float = LEASE,
    sessions_lease: float = SESSIONS_LEASE,
    prefix: str = "chat",
    variant: str = "uvicorn-sansio",
) -> AbstractContextManager[Server]:
    """A worker process, or a server that has several."""
    env = {
        "WORKER_REDIS": url,
        "WORKER_LEASE": str(lease),
        "WORKER_SESSIONS_LEASE": str(sessions_lease),
        "WORKER_PREFIX": prefix,
    }
    return serving(variant, "worker_app:app", *arguments, env=env)


@pytest.fixture(scope="module")
def running_site() -> Iterator[Site]:
    with ExitStack() as stack:
        server = stack.enter_context(redis_server(persistent=True))
        link = stack.enter_context(Proxy(server.port))
        urls = [server.url] * (WORKERS - 1) + [link.url]
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(stack.enter_context, working(url)) for url in urls]
        yield Site(server, link, [each.result() for each in started])


@pytest.fixture
def site(running_site: Site) -> Iterator[Site]:
    """The workers. In the end nobody is connected, nothing is left of it, and no log complains."""
    starts = [len(worker.log()) for worker in running_site.workers]
    yield running_site
    for worker in running_site.workers:
        wait_for(lambda worker=worker: worker.get("/live") == [])
        wait_for(lambda worker=worker: worker.log().count("cut off") == worker.log().count("hears"))
    wait_for(lambda: not running_site.left_behind())
    for worker, start in zip(running_site.workers, starts, strict=True):
        assert not troubles(worker.log_since(start))


def troubles(log: str) -> list[str]:
    """What nobody handled. A refusal for want of Redis tells what broke, and where, indented."""
    told = ("  ", "websocket refused: ", "http refused: ")
    lines = [line for line in log.splitlines() if not line.startswith(told)]
    return [line for line in lines if _TROUBLE.search(line)]


def wait_for(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not done():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.02)


async def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not (await answer if isawaitable(answer := done()) else answer):
        assert time.monotonic() < deadline, "it never happens"
        await asyncio.sleep(0.02)


# Their clients.


class Visit:
    """A client that was admitted, or refused."""

    def __init__(self, worker: Server, ws: ClientConnection | None) -> None:
        self.worker = worker
        self.process = 0  # that it talks to
        self.refusal: tuple[int, str] | None = None
        self.seconds = 0.0  # until it was admitted or refused
        self._ws: Any = ws  # None where the handshake was refused

    async def begin(self) -> None:
        try:
            self.process = int(await asyncio.wait_for(self._ws.recv(), 3 * DEADLINE))
        except ConnectionClosed:
            self.refusal = self._close()

    @property
    def is_open(self) -> bool:
        return self.refusal is None and self._ws.close_code is None

    async def talks(self) -> bool:
        """Whether the socket works still."""
        word = token_hex(4)
        try:
            await self._ws.send(word)
            return await asyncio.wait_for(self._ws.recv(), DEADLINE) == word
        except ConnectionClosed:
            return False

    async def id(self) -> str:
        """What the list of sessions calls it."""
        await self._ws.send("id")
        return str(await asyncio.wait_for(self._ws.recv(), DEADLINE))

    async def closed(self) -> tuple[int, str]:
        """How the server closes the socket."""
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(self._ws.recv(), DEADLINE)
        return self._close()

    async def told(self) -> Any:
        """What the guard says next."""
        return json.loads(await asyncio.wait_for(self._ws.recv(), DEADLINE))

    async def renews(self, token: str) -> None:
        await self._ws.send(json.dumps({"type": "auth.refresh", "token": token}))

    async def leave(self) -> None:
        await self._ws.close()

    def _close(self) -> tuple[int, str]:
        return self._ws.close_code or 0, self._ws.close_reason or ""


class Crowd:
    """Clients that keep their sockets open, until all of them are gone in the end."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def visit(self, worker: Server, path: str, token: str) -> Visit:
        """Ask to be admitted."""
        began = time.monotonic()
        try:
            ws = await connect(
                f"ws://127.0.0.1:{worker.port}{path}?token={token}",
                origin=Origin("https://chat.example"),  # a page: it is told by a close code
                proxy=None,
                compression=None,
                ping_interval=None,
                open_timeout=3 * DEADLINE,
                close_timeout=DEADLINE,
            )
        except InvalidStatus as refused:
            # But not where, on a busy machine, too many before it take seconds to answer the close.
            assert refused.response.status_code == 429, refused.response
            visit = Visit(worker, None)
            visit.refusal = (1013, json.loads(refused.response.body)["error"])
            return visit
        self._stack.push_async_callback(ws.close)
        visit = Visit(worker, ws)
        await visit.begin()
        visit.seconds = time.monotonic() - began
        return visit

    async def visit_each(self, workers: Iterable[Server], path: str, token: str) -> list[Visit]:
        """The same at each of the workers, at once."""
        return await asyncio.gather(*(self.visit(worker, path, token) for worker in workers))

    async def leave(self) -> None:
        await self._stack.aclose()


@pytest.fixture
async def crowd(site: Site) -> AsyncIterator[Crowd]:
    crowd = Crowd()
    try:
        yield crowd
    finally:
        await crowd.leave()


def around(workers: Sequence[Server], times: int) -> Iterator[Server]:
    """Each of the workers in turn."""
    return islice((worker for _ in range(times) for worker in workers), times)


def new_user() -> str:
    return f"user{next(_numbers)}"


def login(user: str, token: str = "t", session: str = "s", *, ago: float = 0.0) -> str:
    """A credential that was issued some seconds ago."""
    return f"{user}.{user}-{token}.{user}-{session}.{time.time() - ago}"


async def ask(worker: Server, method: str, path: str, **query: str) -> Seen:
    return await run_sync(lambda: worker.ask(method, path, **query))


async def ask_each(workers: Iterable[Server], token: str) -> list[tuple[int, Any]]:
    """What an HTTP request with this credential is answered by each of the workers."""
    seen = await asyncio.gather(*(ask(worker, "GET", "/me", token=token) for worker in workers))
    return [(each.status, each.json) for each in seen]


async def revoke(worker: Server, kind: str, name: str) -> Seen:
    return await ask(worker, "POST", "/revoke", **{kind: name})


def logout_token(user: str, **claims: Any) -> str:
    """What an identity provider sends when a user has logged out."""
    at = {"iss": "https://id.example", "aud": "chat", "iat": now(), "exp": now() + 120}
    event = {"jti": token_hex(8), "events": {LOGOUT: {}}}
    return mint(headers={"typ": "logout+jwt"}, **{**at, **event, "sub": user, **claims})


async def log_out(worker: Server, token: str) -> int:
    """Send it to a worker; the status of the answer."""
    body = urlencode({"logout_token": token}).encode()
    seen = await run_sync(lambda: worker.ask("POST", "/logout", headers=[FORM], body=body))
    return seen.status


async def listed(worker: Server, token: str) -> dict[str, Any]:
    """What a worker tells a user of each of his sockets, by their ids, the oldest first."""
    seen = await ask(worker, "GET", "/sessions/", token=token)
    assert seen.status == 200, seen
    return {entry["id"]: entry for entry in seen.json["sessions"]}


async def new_ticket(worker: Server, token: str) -> str:
    seen = await ask(worker, "POST", "/ticket", token=token)
    assert seen.status == 201, seen
    return str(seen.json["ticket"])


def outcomes(visits: Iterable[Visit]) -> Counter[tuple[int, str] | None]:
    """How often there was which refusal; None is an admission."""
    return Counter(visit.refusal for visit in visits)


# What they promise.


@pytest.mark.parametrize("kind", ["user", "token", "session"])
async def test_a_revocation_in_one_process_ends_the_login_in_all(
    site: Site, crowd: Crowd, kind: str
) -> None:
    alice = new_user()
    login_of_alice = login(alice, ago=60)
    others = {
        "user": [login(new_user(), ago=60)],
        "token": [login(new_user(), ago=60), login(alice, token="other", ago=60)],
        "session": [login(new_user(), ago=60), login(alice, "other", "other", ago=60)],
    }[kind]
    ticket, *tickets = [await new_ticket(site.workers[0], login_of_alice) for _ in range(4)]
    hers = [
        *await crowd.visit_each(site.workers * 2, "/open", login_of_alice),
        await crowd.visit(site.workers[1], "/open", ticket),
    ]
    theirs = [
        visit for other in others for visit in await crowd.visit_each(site.workers, "/open", other)
    ]
    assert outcomes(hers + theirs) == {None: len(hers + theirs)}

    name = {"user": alice, "token": f"{alice}-t", "session": f"{alice}-s"}[kind]
    asked = time.time()
    revoked = await revoke(site.workers[0], kind, name)
    assert revoked.status == 200

    async def closed(visit: Visit) -> tuple[tuple[int, str], float]:
        return await visit.closed(), time.time() - asked

    closes = await asyncio.gather(*map(closed, hers))
    assert [how for how, _ in closes] == [REVOKED] * len(hers)
    print("seconds until closed:", sorted(round(after, 3) for _, after in closes))

    assert all(await asyncio.gather(*(visit.talks() for visit in theirs)))
    again = await crowd.visit_each(site.workers, "/open", login_of_alice)
    again += [await crowd.visit(site.workers[n], "/open", used) for n, used in enumerate(tickets)]
    assert outcomes(again) == {REVOKED: WORKERS + 3}
    refusal = (401, {"error": "token_revoked"})
    assert await ask_each(site.workers, login_of_alice) == [refusal] * WORKERS

    new = login(alice, "new", "new")
    assert outcomes(await crowd.visit_each(site.workers, "/open", new)) == {None: WORKERS}
    assert await ask_each(site.workers, new) == [(200, alice)] * WORKERS


async def test_a_logout_at_the_provider_ends_the_login_in_all_processes(
    site: Site, crowd: Crowd
) -> None:
    """On one worker of each server, too, whichever of them was told."""
    variants = [name for name in VARIANTS if name != "hypercorn-trio"]  # Redis takes asyncio
    if not EVERYTHING:
        variants = ["hypercorn", "daphne", "granian"]
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        starts = [
            pool.submit(stack.enter_context, working(site.redis.url, variant=name))
            for name in variants
        ]
        others = [start.result() for start in starts]
        everywhere = site.workers + others
        for told in [site.workers[0], *others]:
            alice, at = new_user(), "@https://id.example"
            hers = await crowd.visit_each(everywhere, "/open", login(alice, ago=60) + at)
            second = login(alice, session="second", ago=60)
            theirs = await crowd.visit_each(everywhere, "/open", second + at)
            elsewhere = await crowd.visit_each(everywhere, "/open", second + "@https://b.example")
            assert outcomes(hers + theirs + elsewhere) == {None: 3 * len(everywhere)}

            began = time.monotonic()
            assert await log_out(told, logout_token(alice, sid=f"{alice}-s")) == 200
            assert {(await visit.closed())[0] for visit in hers} == {4004}  # Daphne gives no reason
            print("seconds, told by", told.name, round(time.monotonic() - began, 3))
            assert all(await asyncio.gather(*(visit.talks() for visit in theirs)))

            assert await log_out(told, token := logout_token(alice)) == 200
            assert {(await visit.closed())[0] for visit in theirs} == {4004}
            assert {await log_out(worker, token) for worker in everywhere} == {400}
            assert all(await asyncio.gather(*(visit.talks() for visit in elsewhere)))
        assert not [line for other in others for line in troubles(other.log())]
        await crowd.leave()


@pytest.mark.parametrize("kind", ["user", "token", "session"])
async def test_two_issuers_users_of_one_name_are_two_people_in_all_processes(
    site: Site, crowd: Crowd, kind: str
) -> None:
    name = new_user()
    plain = login(name, ago=60)
    one, other = f"{plain}@https://a.example", f"{plain}@https://b.example"
    both = [one, other, plain]  # the last of which has no issuer at all
    for token in both if kind == "user" else ():  # they have three sockets each
        visits = await crowd.visit_each(around(site.workers, 8), "/chat", token)
        assert outcomes(visits) == {None: 3, TOO_MANY: 5}
        await asyncio.gather(*(visit.leave() for visit in visits if visit.refusal is None))
    hers, theirs, nobodys = [await crowd.visit_each(site.workers, "/open", t) for t in both]
    hers.append(await crowd.visit(site.workers[1], "/open", await new_ticket(site.workers[0], one)))
    assert outcomes([*hers, *theirs, *nobodys]) == {None: 3 * WORKERS + 1}

    revoked = {"user": name, "token": f"{name}-t", "session": f"{name}-s"}[kind]
    query = {kind: revoked, "issuer": "https://a.example"}
    assert (await ask(site.workers[0], "POST", "/revoke", **query)).status == 200
    assert [await visit.closed() for visit in hers] == [REVOKED] * len(hers)
    assert all(await asyncio.gather(*(visit.talks() for visit in [*theirs, *nobodys])))
    assert outcomes(await crowd.visit_each(site.workers, "/open", one)) == {REVOKED: WORKERS}
    refusal = (401, {"error": "token_revoked"})
    assert await ask_each(site.workers, one) == [refusal] * WORKERS
    assert await ask_each(site.workers, other) == [(200, name)] * WORKERS

    await revoke(site.workers[0], kind, revoked)  # at every issuer
    for visits, token in ((theirs, other), (nobodys, plain)):
        assert [await visit.closed() for visit in visits] == [REVOKED] * WORKERS
        assert await ask_each(site.workers, token) == [refusal] * WORKERS


async def test_who_is_admitted_while_his_login_is_revoked_is_closed_too(
    site: Site, crowd: Crowd
) -> None:
    token = login(user := new_user())
    asked: list[asyncio.Task[Visit]] = []
    for number, worker in enumerate(around(site.workers, 60)):
        asked.append(asyncio.create_task(crowd.visit(worker, "/open", token)))
        if number == 30:
            revoking = asyncio.create_task(revoke(site.workers[0], "user", user))
        if number > 15:
            await asyncio.sleep(0)  # so that some come before, and some afterwards
    visits = await asyncio.gather(*asked)
    assert (await revoking).status == 200
    assert set(outcomes(visits)) <= {None, REVOKED}
    closes = [await visit.closed() for visit in visits if visit.refusal is None]
    assert set(closes) <= {REVOKED}


async def test_of_many_uses_of_one_ticket_exactly_one_is_admitted(site: Site, crowd: Crowd) -> None:
    ticket = await new_ticket(site.workers[0], login(new_user()))
    visits = await crowd.visit_each(around(site.workers, 100 * MANY), "/open", ticket)
    seen = outcomes(visits)
    assert seen[None] == 1
    # Where the machine is overloaded, some are not judged in time, and so not admitted either.
    assert set(seen) <= {None, EXPIRED, UNAVAILABLE}
    assert seen[EXPIRED] > 50 * MANY


async def test_a_limit_of_3_holds_under_many_handshakes_at_once(site: Site, crowd: Crowd) -> None:
    token = login(new_user())
    visits = await crowd.visit_each(around(site.workers, 40 * MANY), "/chat", token)
    assert outcomes(visits) == {None: 3, TOO_MANY: 40 * MANY - 3}

    first, *_ = (visit for visit in visits if visit.is_open)
    await first.leave()

    async def admitted() -> bool:
        return (await crowd.visit(site.workers[0], "/chat", token)).is_open

    await until(admitted)
    assert outcomes(await crowd.visit_each(site.workers, "/chat", token)) == {TOO_MANY: WORKERS}


async def test_the_newest_3_remain_where_the_oldest_are_evicted(site: Site, crowd: Crowd) -> None:
    token, other = login(new_user()), login(new_user())
    bystander = await crowd.visit(site.workers[0], "/newest", other)
    visits = []
    for worker in around(site.workers, 7):
        visits.append(await crowd.visit(worker, "/newest", token))
        if len(visits) > 3:
            assert await visits[-4].closed() == TOO_MANY
    assert outcomes(visits) == {None: 7}
    assert all([await visit.talks() for visit in visits[-3:]])

    crush = await crowd.visit_each(around(site.workers, 20 * MANY), "/newest", token)
    # Whoever lost his place before the app had him was refused, and the others closed.
    assert set(outcomes(crush)) <= {None, TOO_MANY}
    admitted = [visit for visit in [*visits[-3:], *crush] if visit.refusal is None]
    await until(lambda: sum(visit.is_open for visit in admitted) <= 3)
    remain = [visit for visit in admitted if visit.is_open]
    assert [await visit.talks() for visit in remain] == [True] * 3
    closes = [await visit.closed() for visit in admitted if not visit.is_open]
    assert set(closes) == {TOO_MANY}
    assert await bystander.talks()


async def test_the_slots_of_a_killed_worker_are_free_after_its_lease(
    site: Site, crowd: Crowd
) -> None:
    token = login(new_user())
    survivor = await crowd.visit(site.workers[0], "/chat", token)
    with working(site.redis.url, lease=DEADLINE / 2) as mortal:
        assert outcomes(await crowd.visit_each([mortal] * 2, "/chat", token)) == {None: 2}
        os.killpg(mortal.process.pid, signal.SIGKILL)
        mortal.process.wait(DEADLINE)
    killed = time.monotonic()
    visits: list[Visit] = []

    async def free() -> bool:
        visits.append(await crowd.visit(site.workers[1], "/chat", token))
        return visits[-1].is_open

    for _ in range(2):  # each when its own lease has ended
        await until(free)
    print("seconds until free:", round(time.monotonic() - killed, 3))
    refused = [visit for visit in visits if not visit.is_open]
    assert set(outcomes(refused)) == {TOO_MANY}
    others = await crowd.visit_each(site.workers, "/chat", token)
    assert outcomes(others) == {TOO_MANY: WORKERS}
    assert await survivor.talks()


async def test_each_process_lists_all_sockets_of_a_user_with_what_is_true_of_each(
    site: Site, crowd: Crowd
) -> None:
    name = new_user()
    laptop, phone = login(name, "laptop"), login(name, "phone")
    elsewhere = f"{laptop}@https://b.example"  # which is another user
    began = time.time()
    tokens: dict[str, str] = {}
    for worker, token in zip(site.workers * 2, [laptop, phone, phone] * 3, strict=False):
        tokens[await (await crowd.visit(worker, "/listed", token)).id()] = token
    last = time.time()
    other = await crowd.visit(site.workers[2], "/listed", elsewhere)
    await crowd.visit(site.workers[1], "/listed", login(new_user()))
    await crowd.visit(site.workers[1], "/open", laptop)  # which is in no list

    # At once: who was admitted is in the list already.
    lists = await asyncio.gather(*(listed(worker, laptop) for worker in site.workers))
    print("seconds until listed in all:", round(time.time() - last, 3))
    assert [list(each) for each in lists] == [list(tokens)] * WORKERS
    times = [entry["since"] for entry in lists[0].values()]
    assert times == sorted(times)
    assert began <= times[0]
    assert times[-1] <= last
    for id, token in tokens.items():
        assert lists[0][id] == {
            "id": id,
            "since": lists[0][id]["since"],
            "refreshed_at": None,
            "client": "127.0.0.1",
            "path": "/listed",
            "method": "login",
            "fingerprint": Credential(token).fingerprint,
            "user_agent": lists[0][id]["user_agent"],
            "issuer": None,
            "current": token == laptop,
        }
        assert lists[0][id]["user_agent"].startswith("Python/")
    assert list(await listed(site.workers[0], elsewhere)) == [await other.id()]

    await crowd.leave()
    await until_listed(site, laptop, [])


async def until_listed(site: Site, token: str, ids: list[str]) -> None:
    for worker in site.workers:

        async def has_them(worker: Server = worker) -> bool:
            return list(await listed(worker, token)) == ids

        await until(has_them)


async def test_what_is_refreshed_is_listed_with_its_new_credential_in_all_processes(
    site: Site, crowd: Crowd
) -> None:
    old, new = login(user := new_user(), "old"), login(user, "new")
    visit = await crowd.visit(site.workers[0], "/listed", old)
    await visit.renews(new)
    assert (await visit.told())["type"] == "auth.refresh.ok"

    async def is_new() -> bool:
        (entry,) = (await listed(site.workers[1], new)).values()
        return bool(entry["refreshed_at"] and entry["current"])

    await until(is_new)


@pytest.mark.parametrize("how", ["Sessions", "SessionsEndpoint"])
async def test_the_others_are_ended_in_all_processes_and_the_one_stays(
    site: Site, crowd: Crowd, how: str
) -> None:
    token, other = login(name := new_user()), login(new_user())
    hers = await crowd.visit_each(site.workers * 2, "/listed", token)
    theirs = await crowd.visit_each(site.workers, "/listed", other)
    assert outcomes(hers + theirs) == {None: 3 * WORKERS}
    kept, *others = hers
    keep = await kept.id()
    asked = time.monotonic()
    if how == "Sessions":
        query = {"user": name, "keep": keep}
        assert (await ask(site.workers[1], "POST", "/end-others", **query)).status == 200
    else:
        seen = await ask(site.workers[1], "DELETE", "/sessions/", keep=keep, token=token)
        assert (seen.status, seen.json) == (200, {"ended": len(others)})

    assert [await visit.closed() for visit in others] == [REVOKED] * len(others)
    print("seconds until closed:", round(time.monotonic() - asked, 3))
    await until_listed(site, token, [keep])
    assert all(await asyncio.gather(*(visit.talks() for visit in [kept, *theirs])))
    assert len(await listed(site.workers[0], other)) == WORKERS

    id = await theirs[0].id()
    assert (await ask(site.workers[2], "DELETE", f"/sessions/{id}", token=token)).status == 404
    assert (await ask(site.workers[2], "DELETE", f"/sessions/{id}", token=other)).status == 200
    assert await theirs[0].closed() == REVOKED
    assert all(await asyncio.gather(*(visit.talks() for visit in [kept, *theirs[1:]])))


async def test_the_sessions_of_a_killed_worker_vanish_after_its_lease(
    site: Site, crowd: Crowd
) -> None:
    token = login(new_user())
    survivor = await crowd.visit(site.workers[0], "/listed", token)
    with working(site.redis.url, sessions_lease=1.0) as mortal:
        hers = [survivor, *[await crowd.visit(mortal, "/listed", token) for _ in range(2)]]
        ids = [await visit.id() for visit in hers]
        # It renews them, so that they outlive their lease of a second.
        began = time.monotonic()
        await until(lambda: time.monotonic() > began + 2.0)
        await until_listed(site, token, ids)
        os.killpg(mortal.process.pid, signal.SIGKILL)
        mortal.process.wait(DEADLINE)
    killed = time.monotonic()
    await until_listed(site, token, [await survivor.id()])
    print("seconds until they have vanished:", round(time.monotonic() - killed, 3))
    assert await survivor.talks()
    await crowd.leave()
    site.excuse_what_is_left()  # what they were called, which goes with the next lease


# Without Redis.


async def probes(site: Site, crowd: Crowd, login_: str, tickets: Iterable[str]) -> list[Visit]:
    """At each worker: a ticket, a login that might have been revoked, and one that is counted."""
    return await asyncio.gather(
        *(
            crowd.visit(worker, path, token)
            for worker, ticket in zip(site.workers, tickets, strict=True)
            for path, token in [("/open", ticket), ("/open", login_), ("/counted", login_)]
        )
    )


async def test_while_redis_is_down_nobody_is_admitted_and_afterwards_nothing_is_forgotten(
    site: Site, crowd: Crowd
) -> None:
    alice, mallory = login(new_user()), login(revoked_user := new_user(), ago=60)
    starts = [len(worker.log()) for worker in site.workers]
    live = await crowd.visit_each(site.workers[:3], "/chat", alice)
    live += await crowd.visit_each(site.workers[-1:], "/open", alice)
    used, *tickets = [await new_ticket(site.workers[0], alice) for _ in range(1 + WORKERS)]
    assert outcomes([*live, await crowd.visit(site.workers[1], "/open", used)]) == {None: 5}
    assert (await revoke(site.workers[0], "user", revoked_user)).status == 200

    await run_sync(site.redis.kill)
    began = time.monotonic()
    visits = await probes(site, crowd, alice, tickets)
    print("seconds until refused:", sorted(round(visit.seconds, 3) for visit in visits))
    assert outcomes(visits) == {UNAVAILABLE: 3 * WORKERS}
    assert max(visit.seconds for visit in visits) < TIMEOUT
    refusal = (503, {"error": "verifier_unavailable"})
    assert await ask_each(site.workers, alice) == [refusal] * WORKERS
    assert (await revoke(site.workers[0], "user", "bob")).status == 503
    assert (await ask(site.workers[0], "GET", "/sessions/", token=alice)).status == 503
    news, carol = logout_token(user := new_user()), login(user, ago=60) + "@https://id.example"
    assert await log_out(site.workers[0], news) == 503
    assert all([await visit.talks() for visit in live])
    print("seconds without Redis:", round(time.monotonic() - began, 3))

    await run_sync(site.redis.start)
    again = await crowd.visit_each(site.workers, "/open", mallory)
    assert outcomes(again) == {REVOKED: WORKERS}
    assert [await log_out(worker, news) for worker in site.workers[:2]] == [200, 400]
    assert outcomes(await crowd.visit_each(site.workers, "/open", carol)) == {REVOKED: WORKERS}
    assert outcomes(await crowd.visit_each(site.workers, "/open", used)) == {EXPIRED: WORKERS}
    assert outcomes(await crowd.visit_each(site.workers, "/chat", alice)) == {TOO_MANY: WORKERS}
    # Nobody used them up.
    assert outcomes(await probes(site, crowd, login(new_user()), tickets))[None] == 3 * WORKERS - 1
    assert all([await visit.talks() for visit in live])

    for worker, start in zip(site.workers, starts, strict=True):
        await until(lambda worker=worker, start=start: heard(worker, start)[1])
        assert heard(worker, start) == (1, 1)
    await crowd.leave()
    site.excuse_what_is_left()


async def test_sockets_count_again_soon_after_redis_was_down_for_longer_than_their_lease(
    site: Site, crowd: Crowd
) -> None:
    token = login(new_user())
    with working(site.redis.url, lease=1.0) as worker:
        live = await crowd.visit_each([worker] * 3, "/counted", token)
        assert outcomes(live) == {None: 3}
        await run_sync(site.redis.kill)
        down = time.monotonic()
        await until(lambda: time.monotonic() > down + 1.5)
        await run_sync(site.redis.start)
        back = time.monotonic()

        async def refused() -> bool:
            visit = await crowd.visit(site.workers[0], "/counted", token)
            await visit.leave()
            return visit.refusal == TOO_MANY

        await until(refused)
        print("seconds until they count:", round(time.monotonic() - back, 3))
        assert all([await visit.talks() for visit in live])
        await crowd.leave()
        await until(lambda: worker.get("/live") == [])
        assert not troubles(worker.log())
    site.excuse_what_is_left()


async def test_what_was_revoked_while_a_worker_was_cut_off_is_closed_when_it_is_back(
    site: Site, crowd: Crowd
) -> None:
    *_, other, remote = site.workers
    start = len(remote.log())
    alice, bob = login(revoked_user := new_user()), login(new_user())
    hers, his = [await crowd.visit(remote, "/open", token) for token in (alice, bob)]
    await run_sync(site.link.cut)
    try:
        await until(lambda: heard(remote, start) == (1, 0))
        assert (await revoke(other, "user", revoked_user)).status == 200
        assert (await crowd.visit(remote, "/open", alice)).refusal == UNAVAILABLE
        assert await hers.talks()
    finally:
        await run_sync(site.link.restore)
    back = time.monotonic()
    assert await hers.closed() == REVOKED
    print("seconds until closed:", round(time.monotonic() - back, 3))
    assert await his.talks()
    await until(lambda: heard(remote, start)[1])
    assert heard(remote, start) == (1, 1)
    assert (await crowd.visit(remote, "/open", bob)).is_open
    assert (await crowd.visit(remote, "/open", alice)).refusal == REVOKED


async def test_while_redis_hangs_nobody_is_admitted_and_no_handshake_hangs_for_long(
    site: Site, crowd: Crowd
) -> None:
    alice, mallory = login(new_user()), login(revoked_user := new_user(), ago=60)
    live = await crowd.visit_each(site.workers[:3], "/chat", alice)
    assert outcomes(live) == {None: 3}
    tickets = [await new_ticket(site.workers[0], alice) for _ in site.workers]
    assert (await revoke(site.workers[0], "user", revoked_user)).status == 200

    with site.redis.hanging():
        for number, worker in enumerate(around(site.workers, 40)):  # they don't wait for an answer
            token = mallory if number % 3 else alice
            worker.handshake("/chat" if number % 2 else "/counted", token=token).close()
        asked = asyncio.create_task(ask_each(site.workers, alice))

        def ask_what_needs_no_redis() -> Awaitable[object]:
            return asyncio.gather(*(ask(worker, "GET", "/live") for worker in site.workers))

        visits, wait = await with_longest_wait(
            probes(site, crowd, alice, tickets), ask_what_needs_no_redis
        )
        print("seconds until refused:", sorted(round(visit.seconds, 3) for visit in visits))
        assert outcomes(visits) == {UNAVAILABLE: 3 * WORKERS}
        assert max(visit.seconds for visit in visits) < 0.9 * TIMEOUT + wait
        assert await asked == [(503, {"error": "verifier_unavailable"})] * WORKERS
        assert all([await visit.talks() for visit in live])

    # Nobody gets the answer to another's question, or to one that nobody waits for any more.
    for _ in range(1 + MANY):
        visits = await crowd.visit_each(around(site.workers, 20), "/open", mallory)
        assert outcomes(visits) == {REVOKED: 20}
        assert outcomes(await crowd.visit_each(site.workers, "/chat", alice)) == {TOO_MANY: WORKERS}
        other = await crowd.visit_each(site.workers, "/open", login(new_user()))
        assert outcomes(other) == {None: WORKERS}
    assert all([await visit.talks() for visit in live])
    await crowd.leave()
    site.excuse_what_is_left()


async def test_redis_may_be_killed_at_any_moment(site: Site, crowd: Crowd) -> None:
    mallory = login(revoked_user := new_user(), ago=60)
    assert (await revoke(site.workers[0], "user", revoked_user)).status == 200
    told: Counter[tuple[int, str] | None] = Counter()
    tickets: dict[str, int] = {}  # how often each was admitted
    over = False

    async def rush(path: str, token: str) -> list[Visit]:
        visits = await crowd.visit_each(site.workers * 2, path, token)
        told.update(outcomes(visits))
        return visits

    async def revoked_logins() -> None:
        while not over:
            assert set(outcomes(await rush("/open", mallory))) <= {REVOKED, UNAVAILABLE}

    async def limited_logins() -> None:
        while not over:
            visits = await rush("/chat", login(new_user()))
            assert outcomes(visits)[None] <= 3
            for visit in visits:
                await visit.leave()

    async def uses_of_tickets() -> None:
        while not over:
            seen = await ask(site.workers[0], "POST", "/ticket", token=login(new_user()))
            assert seen.status in (201, 503)
            if seen.status == 201:
                ticket = seen.json["ticket"]
                tickets[ticket] = outcomes(await rush("/open", ticket))[None]

    async def told_more(outcome: tuple[int, str] | None) -> None:
        enough = told[outcome] + 8 * MANY
        await until(lambda: told[outcome] >= enough or any(storm.done() for storm in storms))

    storms = [
        asyncio.create_task(storm())
        for storm in [revoked_logins, limited_logins, uses_of_tickets] * (2 if EVERYTHING else 1)
    ]
    for _ in range(3 if EVERYTHING else 2):
        await told_more(None)
        await run_sync(site.redis.kill)
        await told_more(UNAVAILABLE)
        await run_sync(site.redis.start)
    await told_more(None)
    over = True
    await asyncio.gather(*storms)
    print(told)

    for ticket, admitted in tickets.items():
        visits = await crowd.visit_each(site.workers, "/open", ticket)
        assert admitted + outcomes(visits)[None] <= 1
    assert outcomes(await rush("/chat", login(new_user()))) == {None: 3, TOO_MANY: 5}
    await crowd.leave()
    site.excuse_what_is_left()


def heard(worker: Server, start: int) -> tuple[int, int]:
    """How often the log tells that a worker no longer heard of revocations, and did so again."""
    log = worker.log()[start:]
    return log.count("cut off from <RedisStore 'chat'>"), log.count("hears <RedisStore 'chat'> aga")


# As users start them.

PROCESSES = 2
RENEWAL = DEADLINE / 2  # seconds to renew a login


@pytest.fixture(scope="module")
def several(running_site: Site) -> Iterator[Server]:
    """One server that has several processes, in a store of its own: everybody is meant there."""
    url = running_site.redis.url
    with working(url, "--workers", str(PROCESSES), prefix="ends") as server:
        yield server


async def in_each(crowd: Crowd, server: Server, path: str, token: str) -> list[Visit]:
    """Sockets of one user, some in each of its processes."""
    visits: list[Visit] = []

    async def each_process_has_one() -> bool:
        visits.extend(await crowd.visit_each([server] * PROCESSES, path, token))
        return len({visit.process for visit in visits}) == PROCESSES

    await until(each_process_has_one)
    return visits


async def test_the_workers_of_one_server_close_a_revoked_users_sockets(
    site: Site, crowd: Crowd, several: Server
) -> None:
    alice, bob = login(revoked_user := new_user()), login(new_user())
    hers = await in_each(crowd, several, "/open", alice)
    theirs = await crowd.visit_each([several] * WORKERS, "/chat", bob)
    assert outcomes(hers) == {None: len(hers)}
    assert outcomes(theirs) == {None: 3, TOO_MANY: WORKERS - 3}
    assert (await revoke(several, "user", revoked_user)).status == 200
    assert {await visit.closed() for visit in hers} == {REVOKED}
    assert all([await visit.talks() for visit in theirs if visit.refusal is None])
    again = await crowd.visit_each([several] * 20, "/open", alice)
    assert outcomes(again) == {REVOKED: 20}
    await crowd.leave()
    await until(lambda: not site.left_behind())
    assert not troubles(several.log())


async def test_a_block_time_to_renew_and_the_end_for_everybody_hold_in_all_processes(
    crowd: Crowd, several: Server
) -> None:
    alice, bob = login(blocked := new_user()), login(new_user())

    async def ends(**what: str) -> None:
        assert (await ask(several, "POST", "/revoke", **what)).status == 200

    hers = await in_each(crowd, several, "/open", alice)
    his = await in_each(crowd, several, "/renewed", bob)
    asked = time.time()
    await ends(block=blocked, until=str(time.time() + 3600))
    assert {await visit.closed() for visit in hers} == {REVOKED}
    print("seconds until blocked:", round(time.time() - asked, 3))
    newer = login(blocked, "new", "new")
    refused = await crowd.visit_each([several] * 8, "/open", newer)
    assert outcomes(refused) == {REVOKED: 8}
    await ends(unblock=blocked)
    assert outcomes(await crowd.visit_each([several] * 8, "/open", alice)) == {None: 8}
    assert all([await visit.talks() for visit in his])

    begun = time.time()
    await ends(everybody="", within=str(RENEWAL))
    told = [await visit.told() for visit in his]
    assert {each["type"] for each in told} == {"auth.refresh.due"}
    assert all(begun < each["expires_at"] - RENEWAL < time.time() for each in told)
    renewed, *left = his
    await renewed.renews(login(bob.partition(".")[0], "newer", "newer", ago=-1))
    assert (await renewed.told())["type"] == "auth.refresh.ok"
    assert {await visit.closed() for visit in left} == {REVOKED}
    assert time.time() > begun + RENEWAL
    assert await renewed.talks()
    assert outcomes(await crowd.visit_each([several] * 8, "/open", alice)) == {REVOKED: 8}
    await crowd.leave()
    assert not troubles(several.log())
