"""`recheck`: what an open socket's login is asked about again, and what comes of it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from cases import cases
from doors import EXPIRED, REVOKED, Door, alice
from handshakes import NOW, Knows, authenticator, websocket
from sockets import LEFT, Seat, Wire, running, settled, until
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    ConfigurationError,
    ConnectionLimit,
    Credential,
    Denied,
    FailureThrottle,
    MemoryStore,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.authenticator import Attempt
from asgi_wsauth.verifiers.rechecking import Rechecks

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

FORBIDDEN = (1008, "forbidden")
TELL = "auth.refresh"


class Opaque(Knows):
    """A verifier that can ask about its credentials again; `now` is what it is told then."""

    def __init__(self, **known: Any) -> None:
        super().__init__(**known)
        self.now: dict[str, Any] = dict(known)
        self.asked_again: list[str] = []

    async def recheck(self, credential: Credential, conn: HTTPConnection) -> Any:
        assert "token" not in conn.query_params
        self.asked_again.append(credential.value)
        answer = self.now.get(credential.value)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Users:
    """What `load_user` asks; who is in `locked` is unknown."""

    def __init__(self) -> None:
        self.asked: list[Principal] = []
        self.answer: Any = "a user"

    async def __call__(self, principal: Principal, conn: HTTPConnection) -> Any:
        assert "token" not in conn.query_params
        self.asked.append(principal)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Site(Door):
    """A door that rechecks each 60 seconds, with an opaque credential and users."""

    def __init__(self, app: Any, *, known: Any = None, **options: Any) -> None:
        self.opaque, self.users = Opaque(**(known or {"a": alice(1000)})), Users()
        parts = {"load_user": self.users}
        super().__init__(app, parts, verifiers=[self.opaque], **{"recheck": 60, **options})

    async def rechecks(self) -> None:
        """So much time passes that each socket is looked at once more."""
        self.pass_time(67)
        await settled()


async def opened(wire: Wire) -> None:
    await until(lambda: wire.waiting and wire.kinds)


# What is asked


async def test_all_that_may_have_changed_is_asked_about() -> None:
    site = Site(Seat())
    looks = len(site.users.asked)
    async with running(site) as wire:
        await opened(wire)
        for number in (1, 2, 3):
            await site.rechecks()
            assert site.opaque.asked_again == ["a"] * number
            assert len(site.users.asked) == looks + 1 + number
        assert site.opaque.asked == ["a"], "in the handshake only"
        assert wire.close is None
        wire.put(LEFT)
    assert site.left_over == []
    assert site.told == ["admitted", "closed"]


Change = Callable[[Site], Any]


def answers(answer: Any) -> Change:
    return lambda site: site.opaque.now.update(a=answer)


def finds(answer: Any) -> Change:
    return lambda site: setattr(site.users, "answer", answer)


async def is_revoked_unheard(site: Site) -> None:
    """As where a process is cut off from the notices of its store."""
    site.store._watches.clear()
    await site.revocations.revoke_user("alice")


WEAK = alice(1000, scopes=["other"])


@cases(
    ("change", "close"),
    [
        (is_revoked_unheard, REVOKED),
        (finds(None), REVOKED),
        (finds(Denied(Reason.FORBIDDEN)), FORBIDDEN),
        (finds(Denied(Reason.REVOKED)), REVOKED),
        (answers(None), REVOKED),
        (answers(Denied(Reason.INVALID, "it is not active")), REVOKED),
        (answers(Denied(Reason.MALFORMED)), REVOKED),
        (answers(Denied(Reason.FORBIDDEN)), FORBIDDEN),
        (answers(Denied(Reason.EXPIRED)), EXPIRED),
        (answers(WEAK), FORBIDDEN),
        (answers(Principal("bob", scopes=["chat"])), REVOKED),
        (answers(Principal("alice", issuer="https://a.example", scopes=["chat"])), REVOKED),
    ],
)
async def test_what_has_changed_closes_the_socket(change: Change, close: tuple[int, str]) -> None:
    app = Seat()
    site = Site(app, known={"a": alice(1000, scopes=["chat"])}, required_scopes=["chat"])
    async with running(site) as wire:
        await opened(wire)
        await site.rechecks()
        assert wire.close is None
        changed = change(site)
        if changed is not None:
            await changed
        await site.rechecks()
    assert wire.close == close == app.disconnect
    assert (site.closed.close_code, site.closed.reason.phrase) == close  # type: ignore[union-attr]
    assert site.left_over == []


@cases(
    "change",
    [
        finds(ConnectionError("the database")),
        finds(Denied(Reason.UNAVAILABLE)),
        answers(Denied(Reason.UNAVAILABLE)),
        answers(Denied(Reason.KEYS_UNAVAILABLE)),
        answers(ZeroDivisionError()),
        answers("alice"),
        answers(5),
    ],
)
async def test_an_outage_closes_nothing_and_afterwards_a_locked_user_is_closed(
    change: Change,
) -> None:
    site = Site(Seat())
    async with running(site) as wire:
        await opened(wire)
        change(site)
        for _ in range(10):
            await site.rechecks()
        assert wire.close is None
        site.users.answer, site.opaque.now = None, {"a": alice(1000)}
        await site.rechecks()
    assert wire.close == REVOKED


async def test_a_store_that_fails_or_hangs_closes_nothing() -> None:
    class Store(MemoryStore):
        trouble = ""

        async def get_revocations(self, subjects: Any, /) -> Any:
            if self.trouble == "hangs":
                await anyio.sleep_forever()
            if self.trouble == "fails":
                raise OSError
            return await super().get_revocations(subjects)

    site = Site(Seat())
    site.revocations.store = store = Store()
    async with running(site) as wire:
        await opened(wire)
        for trouble in ("hangs", "fails"):
            store.trouble = trouble
            await site.rechecks()
            await anyio.sleep(6)
            assert wire.close is None
        store.trouble = ""
        wire.put(LEFT)
    assert site.left_over == []


async def test_a_verifier_that_can_t_ask_again_is_not_asked() -> None:
    """A JWT says all there is to know, and a ticket was used."""
    door = Door(Seat(), known={"a": alice(1000)}, recheck=60)
    assert not isinstance(door.knows, Rechecks)
    async with running(door) as wire:
        await opened(wire)
        door.pass_time(67)
        await settled()
        assert door.knows.asked == ["a"]
        wire.put(LEFT)


async def test_it_is_no_failure_of_the_client_s_address() -> None:
    site = Site(Seat())
    site.auth.throttle = FailureThrottle("1/hour")
    async with running(site) as wire:
        await opened(wire)
        site.opaque.now["a"] = Denied(Reason.INVALID)
        await site.rechecks()
    assert wire.close == REVOKED
    async with running(site) as wire:  # nobody is locked out
        await opened(wire)
        wire.put(LEFT)


async def test_a_socket_that_outlives_its_credential_is_not_asked_about_at_its_issuer() -> None:
    site = Site(Seat(), known={"a": alice(100)}, enforce_expiry=False)
    async with running(site) as wire:
        await opened(wire)
        await site.rechecks()
        site.opaque.now["a"] = Denied(Reason.INVALID, "it is not active")
        site.pass_time(33)
        await settled()
        await site.rechecks()
        assert wire.close is None
        site.users.answer = None
        await site.rechecks()
    assert wire.close == REVOKED
    assert site.opaque.asked_again == ["a"]


# Beside the rest


async def test_after_a_refresh_it_is_the_new_credential_that_is_asked_about() -> None:
    app = Seat()
    site = Site(app, known={"a": alice(1000), "b": alice(2000)})
    async with running(site) as wire:
        await opened(wire)
        await app.session.refresh("b")
        site.opaque.now["a"] = None
        await site.rechecks()
        assert (wire.close, site.opaque.asked_again) == (None, ["b"])
        site.opaque.now["b"] = None
        await site.rechecks()
    assert wire.close == REVOKED


@cases("outcome", [None, alice(1000)])
async def test_what_is_found_of_a_credential_that_was_replaced_meanwhile_says_nothing(
    outcome: Any,
) -> None:
    app = Seat()
    site = Site(app, known={"a": alice(1000), "b": alice(2000)})
    asked, go_on = anyio.Event(), anyio.Event()

    async def slow(credential: Credential, conn: HTTPConnection) -> Any:
        asked.set()
        await go_on.wait()
        return outcome

    site.opaque.recheck = slow  # type: ignore[method-assign]
    async with running(site) as wire:
        await opened(wire)
        site.pass_time(67)
        await asked.wait()
        await app.session.refresh("b")
        go_on.set()
        await settled()
        assert wire.close is None
        wire.put(LEFT)


async def test_one_that_may_renew_is_left_its_time() -> None:
    app = Seat()
    site = Site(app, refresh_message=TELL)
    async with running(site) as wire:
        await opened(wire)
        await settled()  # the store is listened to by now
        await site.revocations.revoke_user("alice", renew_within=100)
        await until(lambda: len(wire.sent) == 2)
        await site.rechecks()
        assert wire.close is None
        site.pass_time(33)
    assert wire.close == REVOKED


async def test_its_end_comes_once_whatever_else_ends_it() -> None:
    app = Seat()
    site = Site(app, known={"a": alice(60)})
    async with running(site) as wire:
        await opened(wire)
        site.users.answer = None
        await site.rechecks()
    assert wire.close in (EXPIRED, REVOKED)
    assert site.left_over == []


async def test_nobody_is_asked_about_while_login_is_off() -> None:
    users = Users()
    auth = authenticator(required=False, load_user=users)
    app = Seat()
    door = WebSocketAuthMiddleware(app, auth, recheck=60)
    async with running(door, "") as wire:
        await opened(wire)
        assert app.receive.__self__ is wire, "it is not guarded"
        wire.put(LEFT)


@pytest.mark.usefixtures("little_to_collect")
async def test_a_socket_that_is_gone_is_forgotten_without_any_store_too() -> None:
    app = Seat()
    door = WebSocketAuthMiddleware(app, authenticator(Opaque(a=alice(None))), recheck=60)
    async with running(door, "token=a") as wire:
        await opened(wire)
        session = weakref.ref(app.scope["wsauth"])
        wire.put(LEFT)
    vars(app).clear()
    del wire
    gc.collect()
    assert session() is None


@cases("has_limit", [False, True])
async def test_inside_it_is_the_outer_instance_that_asks(has_limit: bool) -> None:
    app = Seat()
    site = Site(lambda *call: inner(*call))
    limit = ConnectionLimit(3, MemoryStore()) if has_limit else None
    inner = WebSocketAuthMiddleware(app, site.auth, recheck=5, connection_limit=limit)
    async with running(site) as wire:
        await opened(wire)
        site.pass_time(30)
        await settled()
        assert site.opaque.asked_again == []
        site.pass_time(37)
        await settled()
        assert site.opaque.asked_again == ["a"]
        wire.put(LEFT)


async def test_a_refused_handshake_leaves_nothing_to_ask_about() -> None:
    site = Site(Seat())
    await site.revocations.revoke_user("alice")
    async with running(site) as wire:
        pass
    assert wire.close == REVOKED
    assert site.left_over == []


async def test_a_socket_that_is_not_accepted_yet_is_asked_about_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await receive()

    site = Site(app, rejection="http_response")
    async with running(site) as wire:
        await until(lambda: wire.waiting)
        await settled()
        site.users.answer = None
        await site.rechecks()
    assert wire.sent[0]["status"] == 401


async def test_a_socket_that_is_over_is_not_asked_about() -> None:
    app = Seat()
    site = Site(app)
    async with running(site) as wire:
        await opened(wire)
        guard = app.send.__self__
        wire.put(LEFT)
    looks = len(site.users.asked)
    await guard.recheck()
    assert len(site.users.asked) == looks


# The decision


async def test_a_recheck_is_a_part_of_the_one_decision() -> None:
    """Neither the switch nor the origin nor the throttle nor the sources count again."""
    opaque, users = Opaque(a=alice()), Users()
    auth = Authenticator(
        [opaque],
        load_user=users,
        allowed_origins=["https://chat.example"],
        throttle=FailureThrottle("1/hour"),
        clock=lambda: NOW,
    )
    headers = [("origin", "https://chat.example")]
    attempt = auth.collect(HTTPConnection(websocket("token=a")))
    await auth.authenticate(HTTPConnection(websocket(headers=headers)), attempt=attempt)
    auth.required = False
    stranger = HTTPConnection(websocket(headers=[("origin", "https://evil.example")]))
    assert await auth.recheck(stranger, attempt) is attempt.principal
    opaque.now["a"] = Denied(Reason.INVALID)
    with pytest.raises(Denied) as caught:
        await auth.recheck(stranger, attempt)
    assert caught.value.reason is Reason.REVOKED


async def test_what_is_asked_again_must_be_an_async_function() -> None:
    class Sync(Opaque):
        def recheck(self, credential: Credential, conn: HTTPConnection) -> Any:
            return self.known[credential.value]

    sync = Sync(a=alice())
    auth = authenticator(sync)
    attempt = Attempt([], Credential("a"), alice(), sync)
    with pytest.raises(Denied) as caught:
        await auth.recheck(HTTPConnection(websocket()), attempt)
    assert caught.value.reason is Reason.ERROR
    assert caught.value.detail.endswith(
        "recheck must be an async function, got one that returns a Principal"
    )


@cases(
    ("answer", "reason", "detail"),
    [
        (Denied(Reason.INVALID, "it is not active"), Reason.REVOKED, "it is not active"),
        (Denied(Reason.EXPIRED, "since 5 s"), Reason.EXPIRED, "since 5 s"),
        (None, Reason.REVOKED, " does not know it any more"),
        (Principal("bob"), Reason.REVOKED, "it is somebody else's now"),
        (5, Reason.ERROR, ".recheck must return a Principal or None, got an int"),
    ],
)
async def test_it_is_said_why(answer: Any, reason: Reason, detail: str) -> None:
    opaque = Opaque(a=answer)
    attempt = Attempt([], Credential("a"), alice(), opaque)
    with pytest.raises(Denied) as caught:
        await authenticator(opaque).recheck(HTTPConnection(websocket()), attempt)
    assert (caught.value.reason, caught.value.detail[-len(detail) :]) == (reason, detail)
    assert repr(opaque) in caught.value.detail or detail[0] not in " ."


@cases("seconds", [0, -1, True, "60", float("nan"), float("inf")])
def test_bad_configuration_is_named(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^recheck must be a positive number of seconds"):
        Door(Seat(), recheck=seconds)
