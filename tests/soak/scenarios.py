"""What clients do, kind by kind. The promise that each of them tests is in its code."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

from frames import Close

from . import terms
from .clients import Client
from .mint import Mint, Token
from .visits import (
    ADMITTED,
    BY_HTTP,
    ENDED,
    EXPIRED,
    FORBIDDEN,
    INVALID,
    MALFORMED,
    MISSING,
    NO_KEYS,
    ORIGIN,
    RESTARTING,
    REVOKED,
    SILENT,
    THROTTLED,
    TOO_MANY,
    Visit,
)

Scenario: TypeAlias = Callable[[Client], Awaitable[None]]

_TALKING = ("/chat", "/newest")


# Good ones


async def good(client: Client) -> None:
    """Comes, talks, and leaves."""
    visit = await client.visit(client.mint.any(), ADMITTED)
    if visit.answer == ADMITTED:
        await _talk(client, visit, client.random.randrange(3))


async def _talk_once(client: Client, token: Token) -> None:
    visit = await client.visit(token, ADMITTED)
    if visit.answer == ADMITTED:
        await _talk(client, visit, 1)


async def _talk(client: Client, visit: Visit, times: int) -> None:
    for number in range(times):
        visit.send(f"word {number}")
        said = await client.message(visit)
        if said != f"word {number}":
            client.must_stay(visit, said if isinstance(said, tuple) else SILENT)
            return
    await client.leave(visit)


async def staying(client: Client) -> None:
    """Stays, and is answered whatever happens meanwhile; if a worker restarts, at another one."""
    token, path = client.mint.login(), client.random.choice(_TALKING)
    visit = await client.visit(token, ADMITTED, path=path)
    until = time.monotonic() + client.random.uniform(1, 60)
    while visit.answer == ADMITTED and time.monotonic() < until and not client.over.is_set():
        visit.send("still here")
        said = await client.message(visit)
        if said == "still here":
            await client.pause(client.random.uniform(0.5, 4))
            continue
        client.must_stay(visit, said if isinstance(said, tuple) else SILENT)
        if said != RESTARTING:
            return
        await client.hang_up(visit, RESTARTING)
        client.saw("moved")
        visit = await client.visit(token, ADMITTED, path=path)
    if visit.answer == ADMITTED:
        client.saw("stayed")
        await client.leave(visit)


async def _stays(client: Client, visit: Visit, seconds: float = 0.0) -> bool:
    """Whether he is answered for so long, and now."""
    until = time.monotonic() + seconds
    while True:
        visit.send("still here")
        said = await client.message(visit)
        if said != "still here":
            client.must_stay(visit, said if isinstance(said, tuple) else SILENT)
            return False
        if time.monotonic() > until or client.over.is_set():
            return True
        await client.pause(min(client.random.uniform(0.5, 4), max(0, until - time.monotonic())))


async def with_ticket(client: Client) -> None:
    """A ticket opens one socket, and not another one later."""
    ticket = await _ticket(client)
    if ticket is None:
        return
    visit = await client.visit(ticket, ADMITTED)
    if visit.answer == ADMITTED:
        client.mint.spent.append(ticket)
        await client.leave(visit)
        await client.visit(ticket, *SPENT)


SPENT = (EXPIRED, INVALID)  # the second, once it is older than twice the time that it worked


async def ticket_at_once(client: Client) -> None:
    """Of several uses at once, exactly one is admitted."""
    ticket = await _ticket(client)
    if ticket is None:
        return
    began = time.monotonic()
    visits = await asyncio.gather(
        *(client.visit(ticket, ADMITTED, *SPENT) for _ in range(client.random.randrange(2, 6)))
    )
    admitted = [visit for visit in visits if visit.answer == ADMITTED]
    if len(admitted) > 1:
        client.wrong("admitted", f"{len(admitted)} with one ticket")
    if not admitted and not _had_trouble(client, visits, began):
        client.wrong("refused", f"nobody with a ticket: {[visit.answer for visit in visits]}")
    if admitted:
        client.mint.spent.append(ticket)
    for visit in admitted:
        await client.leave(visit)


async def _ticket(client: Client) -> str | None:
    status, told = await client.ask("/ticket", client.mint.login())
    return str(told["ticket"]) if status == 201 else None


def _had_trouble(client: Client, visits: list[Visit], began: float) -> bool:
    """Whether one of them may have been admitted, or used something up, and never heard of it."""
    return client.site.troubles.had("redis", began) or any(v.worker.is_over for v in visits)


# Bad ones


def _refused(make: Callable[[Mint], str], *answers: Close) -> Scenario:
    """Whoever comes with such a credential."""

    async def come(client: Client) -> None:
        credential = make(client.mint)
        if credential:  # else there is none yet
            await client.visit(credential, *answers)

    return come


async def missing(client: Client) -> None:
    await client.visit(None, MISSING)


async def two_tokens(client: Client) -> None:
    one, other = client.mint.login(), client.mint.login()
    headers = (("Authorization", f"Bearer {one.value}"), ("Authorization", f"Bearer {other.value}"))
    await client.visit(None, MALFORMED, headers=headers)


async def foreign_origin(client: Client) -> None:
    origin = client.random.choice(["https://evil.test", "null", f"{terms.ORIGIN}.evil.test"])
    await client.visit(client.mint.any(), ORIGIN, headers=(("Origin", origin),))


async def guessing(client: Client) -> None:
    """Tries until his address is locked out, there, and nobody else's."""
    worker, began = client.site.any_worker(client.random), time.monotonic()
    good, bad = client.mint.login(), client.mint.rubbish
    tries: list[tuple[Token | str, Close]]
    tries = [(bad(), INVALID) for _ in range(terms.FAILURES)]
    for credential, answer in [*tries, (bad(), THROTTLED), (good, THROTTLED)]:
        if worker.is_over or time.monotonic() - began > terms.FAILURES_WITHIN / 2:
            return
        await client.visit(credential, answer, worker=worker)
    client.address = "10.0.0.1"
    await _talk_once(client, client.mint.login())


async def guessing_at_once(client: Client) -> None:
    """Makes all his guesses before any is judged: no more are judged than one after the other."""
    worker, began = client.site.any_worker(client.random), time.monotonic()
    guesses = [client.mint.rubbish() for _ in range(5 * terms.FAILURES)]
    visits = await asyncio.gather(
        *(client.visit(guess, INVALID, THROTTLED, worker=worker) for guess in guesses)
    )
    judged = sum(visit.answer == INVALID for visit in visits)
    if judged > terms.FAILURES and time.monotonic() - began < terms.FAILURES_WITHIN:
        client.wrong("admitted", f"{judged} guesses at once were judged")


async def looping(client: Client) -> None:
    """A program that comes back at once, whatever it is told: soon by HTTP, so that it may stop."""
    client.is_page = False
    worker, bad = client.site.any_worker(client.random), client.mint.expired()
    began = time.monotonic()
    visits = [await client.visit(bad, EXPIRED, BY_HTTP, worker=worker) for _ in range(12)]
    if worker.is_over or time.monotonic() - began > 8:
        return
    if visits[0].answer != EXPIRED or visits[-1].answer != BY_HTTP:
        client.wrong("reason", f"a loop was told {[visit.answer for visit in visits]}")


async def flooding(client: Client) -> None:
    """Is refused, and sends on whatever it is told: little that unpacks to a lot."""
    visit = await client.visit(
        client.mint.rubbish(),
        INVALID,
        BY_HTTP,
        (1002, ""),  # as the server itself may say
        headers=(("Sec-WebSocket-Extensions", "permessage-deflate"),),
        flood=client.random.randrange(1, 30),
    )
    visit.abort()


# Those whose first message is the credential


async def first_message(client: Client) -> None:
    token = client.mint.login()
    visit = await client.visit(token, ADMITTED, path="/first", first=_first(token.value))
    if visit.answer == ADMITTED:
        await _talk(client, visit, 1)


async def first_message_is_bad(client: Client) -> None:
    said, answer = client.random.choice(
        [
            (_first(client.mint.rubbish()), INVALID),
            (_first(client.mint.expired()), EXPIRED),
            (_first(client.mint.foreign()), INVALID),
            ("hello", MALFORMED),
        ]
    )
    await client.visit(None, answer, path="/first", first=said)


async def no_first_message(client: Client) -> None:
    """Says nothing, until the server has had enough."""
    await client.visit(None, MISSING, path="/first")


def _first(value: str) -> str:
    return json.dumps({"type": "auth", "token": value})


# Those who leave without a word


async def leaving(client: Client) -> None:
    """Gone in the middle of the request, before the answer, after it, or while talking."""
    worker = client.site.any_worker(client.random)
    path = client.random.choice(["/chat", "/stream", "/newest", "/first"])
    token = None if path == "/first" else client.mint.login().value
    how = client.random.randrange(4)
    if how == 0:
        _half_a_request(client, worker.server)
        return
    visit = await Visit.begin(worker, path, token=token)
    client.tally.handshakes += 1
    try:
        if how > 1 and token is not None:
            await visit.read_answer()
        if how > 2:
            visit.send(*["word"] * 20)
        client.saw("left")
    finally:
        visit.abort()


def _half_a_request(client: Client, server: Any) -> None:
    with suppress(OSError), server.tcp() as tcp:
        tcp.sendall(b"GET /chat?token=half HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: webs")
    client.saw("left")


# Those whose time is over


async def expiring(client: Client) -> None:
    """Closed when its token expires, and not before, whatever the app does."""
    token = client.mint.login(lasts=client.random.uniform(0.2, 4))
    visit = await _brief(client, token, client.random.choice(["/chat", "/stream", "/deaf"]))
    if visit.answer == ADMITTED:
        await client.must_be_closed(visit, EXPIRED, not_before=token.expires_at)


async def expiring_stream(client: Client) -> None:
    """Ends when its token expires, and not before, with the end of its body."""
    token = client.mint.login(lasts=client.random.uniform(0.2, 4))
    visit = await _brief(client, token, "/events")
    if visit.answer == ADMITTED:
        await client.must_be_closed(visit, ENDED, not_before=token.expires_at)


async def _brief(client: Client, token: Token, path: str) -> Visit:
    """A handshake that may take longer than its token lasts."""
    late = (BY_HTTP, ENDED) if path == "/events" else (EXPIRED,)
    visit = await client.visit(token, ADMITTED, *late, path=path)
    if visit.answer in late and time.time() < token.expires_at:
        client.wrong("refused", f"before its time: {token}")
    return visit


async def refreshing(client: Client) -> None:
    """Brings new tokens, and is closed when the last one expires."""
    token = client.mint.login(lasts=client.random.uniform(1, 3))
    visit = await _brief(client, token, "/chat")
    if visit.answer != ADMITTED:
        return
    for _ in range(client.random.randrange(1, 4)):
        await client.pause(client.random.uniform(0.1, 1))
        token_before, token = token, client.mint.login(token.user, client.random.uniform(1, 3))
        said = await _refresh(client, visit, token.value)
        if isinstance(said, tuple):
            if said != EXPIRED or time.time() < token_before.expires_at:
                client.must_stay(visit, said)
            return
        if abs(json.loads(said)["expires_at"] - token.expires_at) > 0.001:
            client.wrong("refused", f"refreshed until {said}, and not {token.expires_at}")
        client.saw("refreshed")
    if client.random.random() < 0.3:
        await client.leave(visit)
    else:
        await client.must_be_closed(visit, EXPIRED, not_before=token.expires_at)


async def _refresh(client: Client, visit: Visit, token: str) -> str | Close:
    _send_refresh(visit, token)
    return await client.message(visit, f"{terms.REFRESH}.ok")


def _send_refresh(visit: Visit, token: str) -> None:
    visit.asked_at = time.monotonic()
    visit.send(json.dumps({"type": terms.REFRESH, "token": token}))


async def refreshing_badly(client: Client) -> None:
    """Brings a new credential that is none of his, or none at all."""
    token = client.mint.login()
    visit = await client.visit(token, ADMITTED)
    if visit.answer != ADMITTED:
        return
    bad, close = client.random.choice(
        [
            (client.mint.login().value, FORBIDDEN),
            (client.mint.rubbish(), INVALID),
            (client.mint.foreign(), INVALID),
            (client.mint.expired(), EXPIRED),
        ]
    )
    _send_refresh(visit, bad)
    await client.must_be_closed(visit, close, due=time.time())


# Those whose login is ended


async def revoked(client: Client) -> None:
    """Revoked by user, session or token: closed wherever they are, and refused from then on; who
    logs in anew is admitted."""
    token = client.mint.login()
    paths = [client.random.choice(["/chat", "/stream", "/deaf"]) for _ in range(2)]
    visits = await asyncio.gather(*(client.visit(token, ADMITTED, path=path) for path in paths))
    at = await _revoke(client, token)
    if at is None:
        return
    here = [visit for visit in visits if visit.answer == ADMITTED]
    await asyncio.gather(*(client.must_be_closed(visit, REVOKED, due=at) for visit in here))
    for worker in list(client.site.workers):
        await client.visit(token, REVOKED, worker=worker)
    await _talk_once(client, client.mint.login(token.user))


async def revoked_meanwhile(client: Client) -> None:
    """Revoked during the handshake: refused, or admitted and then closed."""
    token = client.mint.login()
    revoking = asyncio.create_task(_revoke(client, token))
    visits = await asyncio.gather(
        *(client.visit(token, ADMITTED, REVOKED) for _ in range(terms.LIMIT))
    )
    at = await revoking
    if at is not None:
        here = [visit for visit in visits if visit.answer == ADMITTED]
        await asyncio.gather(*(client.must_be_closed(visit, REVOKED, due=at) for visit in here))


async def revoked_stream(client: Client) -> None:
    """Ends as soon as its login is revoked, with the end of its body."""
    token = client.mint.login()
    visit = await client.visit(token, ADMITTED, path="/events")
    at = await _revoke(client, token)
    if at is not None and visit.answer == ADMITTED:
        await client.must_be_closed(visit, ENDED, due=at)


async def logged_out(client: Client) -> None:
    """Logs out at the issuer: closed as if revoked. That is reported twice, and counts once: who
    logs in between stays."""
    token = client.mint.own()
    visit = await client.visit(token, ADMITTED, path=client.random.choice(["/chat", "/stream"]))
    logout = client.mint.logout(token)
    if not await _report(client, logout, 200):
        return
    at = time.time()
    client.mint.revoked.append(token.value)
    if visit.answer == ADMITTED:
        await client.must_be_closed(visit, REVOKED, due=at)
    anew = await client.visit(client.mint.own(token.user), ADMITTED)
    await _report(client, logout, 400)
    if anew.answer == ADMITTED:
        await _talk(client, anew, 1)


async def _report(client: Client, logout: str, expected: int) -> bool:
    """Report a logout, until that is answered; whether it was."""
    for number in range(20):
        status, told = await client.ask("/logout", logout_token=logout)
        # It may have been taken without an answer before.
        if status == expected or (status == 400 and number):
            return True
        if status not in (0, 503):
            what = "admitted" if status == 200 else "refused"
            client.wrong(what, f"a logout: {status} {told}, and not {expected}")
            return False
        await client.pause(1)
    client.wrong("broken", "a logout can't be reported")
    return False


async def _revoke(client: Client, token: Token) -> float | None:
    """When that was done for sure; None where it wasn't."""
    kind, name = client.random.choice(
        [("user", token.user), ("token", token.token_id), ("session", token.session_id)]
    )
    for _ in range(20):
        status, _ = await client.ask(f"/revoke?{kind}={name}")
        if status == 200:
            client.mint.revoked.append(token.value)
            return time.time()
        await client.pause(1)
    client.wrong("broken", f"{kind} {name} can't be revoked")
    return None


async def locked(client: Client) -> None:
    """Locked in the table of users, of which nobody tells the workers: closed at the next recheck
    wherever they are, and refused from then on. An outage closes nothing, and only delays it."""
    token = client.mint.login()
    visits = [await client.visit(token, ADMITTED, path="/watched") for _ in range(2)]
    here = [visit for visit in visits if visit.answer == ADMITTED]
    stay = client.random.uniform(0, 2 * terms.RECHECK)
    if not all(await asyncio.gather(*(_stays(client, visit, stay) for visit in here))):
        return
    for _ in range(20):
        status, _ = await client.ask(f"/lock?user={token.user}")
        if status == 200:
            break
        await client.pause(1)
    else:
        client.wrong("broken", f"{token.user} can't be locked")
        return
    began, at = time.monotonic(), time.time()
    await asyncio.gather(*(client.must_be_closed(visit, REVOKED, due=at) for visit in here))
    late = time.monotonic() - began - 1.1 * terms.RECHECK
    if late > _LATE and not _had_trouble(client, visits, began):
        client.wrong("lost", f"a recheck came {late:.1f} s late")
    await client.visit(token, REVOKED, path="/watched")
    await _talk_once(client, token)  # where nobody asks that table


_LATE = 8.0  # seconds of a busy machine


async def aged(client: Client) -> None:
    """Stays where sockets may last only so long: is closed then, and not before."""
    token, since = client.mint.login(), time.time()
    visit = await client.visit(token, ADMITTED, path="/watched")
    if visit.answer != ADMITTED:
        return
    if client.random.random() < 0.5:
        if not await _stays(client, visit, client.random.uniform(0, terms.MAX_AGE / 2)):
            return
        since = time.time()
        said = await _refresh(client, visit, client.mint.login(token.user).value)
        if isinstance(said, tuple):
            client.must_stay(visit, said)
            return
        client.saw("refreshed")
    until = since + terms.MAX_AGE
    if not await _stays(client, visit, until - time.time() - 1):
        return
    if client.over.is_set():
        await client.leave(visit)
    else:
        await client.must_be_closed(visit, EXPIRED, not_before=until)


async def ended_elsewhere(client: Client) -> None:
    """Ends one of his sockets from another page, then all but one: these, and no other."""
    token, began = client.mint.login(), time.monotonic()
    here: dict[str, Visit] = {}
    for _ in range(3):
        visit = await client.visit(token, ADMITTED, path="/watched")
        if visit.answer != ADMITTED:
            return
        visit.send("id")
        id = await client.message(visit)
        if isinstance(id, tuple):
            client.must_stay(visit, id)
            return
        here[id] = visit
    visits = list(here.values())
    status, told = await client.ask("/sessions/", token, "GET")
    listed = {entry["id"] for entry in told["sessions"]} if status == 200 else set(here)
    if listed != set(here) and not _had_trouble(client, visits, began):
        client.wrong("reason", f"{sorted(here)} are listed as {told}")
    last, other, first = client.random.sample(sorted(here), 3)
    for ending, asking in (first, f"/sessions/{first}"), (other, f"/sessions/?keep={last}"):
        status, told = await client.ask(asking, token, "DELETE")
        if (status, told) != (200, {"ended": 1}):
            if status and not _had_trouble(client, visits, began):  # 0 is judged already
                client.wrong("broken", f"{asking}: {status} {told}")
            return
        await client.must_be_closed(here.pop(ending), REVOKED, due=time.time())
        if not all([await _stays(client, visit) for visit in here.values()]):
            return
    await client.leave(here[last])


# Those who are too many


async def too_many(client: Client) -> None:
    """One more than a user may have is refused, until another one leaves."""
    token = client.mint.login()
    began = time.monotonic()
    visits = await asyncio.gather(
        *(client.visit(token, ADMITTED, TOO_MANY) for _ in range(terms.LIMIT + 2))
    )
    here = [visit for visit in visits if visit.answer == ADMITTED]
    if len(here) != terms.LIMIT and not _had_trouble(client, visits, began):
        what = "admitted" if len(here) > terms.LIMIT else "refused"
        client.wrong(what, f"{len(here)} of one user: {[visit.answer for visit in visits]}")
    for visit in here:
        await client.leave(visit)


async def evicted(client: Client) -> None:
    """One more than a user may have on /newest closes his oldest."""
    token = client.mint.login()
    began = time.monotonic()
    # One after the other: who is evicted while he is admitted is refused.
    visits = [await client.visit(token, ADMITTED, path="/newest") for _ in range(terms.LIMIT + 1)]
    oldest, *others = visits
    if _had_trouble(client, visits, began) or time.monotonic() - began > terms.LEASE / 2:
        return  # a slot may have been lost meanwhile
    await client.must_be_closed(oldest, TOO_MANY, due=time.time())
    for visit in others:
        await client.leave(visit)


Mix: TypeAlias = "dict[str, tuple[float, Scenario]]"  # with how often each is chosen

SHORT: Mix = {
    "good": (40, good),
    "with a ticket": (6, with_ticket),
    "a ticket at once": (3, ticket_at_once),
    "rubbish": (3, _refused(Mint.rubbish, INVALID)),
    "foreign key": (3, _refused(Mint.foreign, INVALID)),
    "unknown key": (2, _refused(Mint.of_unknown_key, INVALID, NO_KEYS)),
    "withdrawn key": (2, _refused(Mint.of_withdrawn_key, INVALID)),
    "alg none": (3, _refused(Mint.unsigned, INVALID)),
    "other's algorithm": (2, _refused(Mint.confused, INVALID)),
    "expired": (3, _refused(Mint.expired, EXPIRED)),
    "ticket of nobody": (2, _refused(Mint.unissued, INVALID)),
    "spent ticket": (3, _refused(Mint.spent_one, *SPENT)),
    "revoked before": (4, _refused(Mint.revoked_one, REVOKED)),
    "missing": (2, missing),
    "two tokens": (1, two_tokens),
    "foreign origin": (2, foreign_origin),
    "guessing": (0.5, guessing),
    "guessing at once": (0.2, guessing_at_once),
    "looping": (0.5, looping),
    "flooding": (0.1, flooding),
    "first message": (3, first_message),
    "bad first message": (2, first_message_is_bad),
    "no first message": (0.5, no_first_message),
    "leaving": (8, leaving),
    "too many": (2, too_many),
    "evicted": (1, evicted),
    "bad refresh": (2, refreshing_badly),
    "revoked": (3, revoked),
    "revoked meanwhile": (2, revoked_meanwhile),
    "revoked stream": (2, revoked_stream),
    "logged out": (2, logged_out),
    "ended elsewhere": (2, ended_elsewhere),
}

LONG: Mix = {
    "staying": (1, staying),
    "expiring": (2, expiring),
    "expiring stream": (1, expiring_stream),
    "refreshing": (2, refreshing),
    "locked": (0.5, locked),
    "aged": (0.5, aged),
}
