"""Revocations: who is refused from now on, and whose sockets end."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from cases import cases
from doors import Here
from handshakes import NOW
from sockets import settled, until

from asgi_wsauth import (
    ConfigurationError,
    Denied,
    MemoryStore,
    Notice,
    Principal,
    Reason,
    Revocations,
)
from asgi_wsauth.policies.revocation import check_revoked, subjects_of
from asgi_wsauth.stores import listener as listening

pytestmark = [pytest.mark.anyio, pytest.mark.both_loops, pytest.mark.hurried]

DAY = 86400.0


def alice(issued_at: float | None = NOW, **more: Any) -> Principal:
    return Principal("alice", issued_at=issued_at, **more)


class Socket:
    """A live socket that remembers why it was ended."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.ends: list[Reason] = []

    def end(self, denied: Denied, /) -> None:
        self.ends.append(denied.reason)


# Who is refused


async def test_nobody_is_refused_before_anything_was_revoked() -> None:
    assert not await Here().refuses(alice(token_id="t", session_id="s"))


@cases(
    ("principal", "refused"),
    [
        (alice(NOW - 1), True),
        (alice(NOW), True),  # `iat` is often a whole second
        (alice(NOW + 0.001), False),
        (alice(NOW + 1), False),
        (alice(None), True),
        (alice(0), True),
        (Principal("bob", issued_at=NOW - 1), False),
        (Principal("Alice", issued_at=NOW - 1), False),
        (Principal("bob", token_id="alice", session_id="alice"), False),
    ],
)
async def test_a_user_is_refused_with_what_was_issued_until_now(
    principal: Principal, refused: bool
) -> None:
    here = Here()
    await here.revocations.revoke_user("alice")
    assert await here.refuses(principal) is refused


@cases("kind", ["token", "session"])
@cases("issued_at", [None, NOW - 1, NOW, NOW + 1000])
async def test_a_token_and_a_session_are_refused_whenever_they_were_issued(
    kind: str, issued_at: float | None
) -> None:
    here = Here()
    await getattr(here.revocations, f"revoke_{kind}")("x")
    other = {"token": "session", "session": "token"}[kind]
    assert await here.refuses(alice(issued_at, **{f"{kind}_id": "x"}))
    assert not await here.refuses(alice(issued_at, **{f"{other}_id": "x"}))
    assert not await here.refuses(alice(issued_at, **{f"{kind}_id": "y"}))
    assert not await here.refuses(Principal("x", issued_at=issued_at))


@cases("kind", ["user", "token", "session"])
async def test_what_is_revoked_at_an_issuer_is_revoked_at_no_other(kind: str) -> None:
    here = Here()
    await getattr(here.revocations, f"revoke_{kind}")("x", issuer="https://a.example")
    for issuer in ("https://a.example", "https://b.example", None):
        principal = Principal("x", issuer=issuer, token_id="x", session_id="x")
        assert await here.refuses(principal) is (issuer == "https://a.example")


async def test_a_user_who_is_revoked_again_is_revoked_until_the_later_time() -> None:
    here = Here()
    await here.revocations.revoke_user("alice")
    here.clock.now += 10
    assert not await here.refuses(alice(NOW + 5))
    await here.revocations.revoke_user("alice")
    assert await here.refuses(alice(NOW + 5))
    here.clock.now -= 20  # a clock that was set back
    await here.revocations.revoke_user("alice")
    assert await here.refuses(alice(NOW + 5))


@cases(
    ("expires_in", "kept"),
    [
        (None, 30 * DAY),
        (300.0, 3900.0),  # and an hour more than its own time, for any leeway
        (0.0, 3600.0),
        (-1e9, 3600.0),
        (DAY, DAY + 3600),
        (1e9, 30 * DAY),
        (inf, 30 * DAY),
    ],
)
async def test_a_revocation_is_kept_as_long_as_a_token_may_be_valid(
    expires_in: float | None, kept: float
) -> None:
    here = Here()
    await here.revocations.revoke_token("t", None if expires_in is None else NOW + expires_in)
    here.clock.now += kept - 1
    assert await here.refuses(alice(token_id="t"))
    here.clock.now += 1
    assert not await here.refuses(alice(token_id="t"))


@cases("kind", ["user", "session"])
async def test_how_long_it_is_kept_is_an_option(kind: str) -> None:
    here = Here(max_token_age=DAY)
    await getattr(here.revocations, f"revoke_{kind}")("alice")
    here.clock.now += DAY - 1
    assert await here.refuses(alice(NOW, session_id="alice"))
    here.clock.now += 1
    assert not await here.refuses(alice(NOW, session_id="alice"))


@cases(
    ("method", "arguments", "message"),
    [
        (
            "revoke_user",
            {"identity": ""},
            "identity must be a string, for example \"alice\", got ''",
        ),
        ("revoke_user", {"identity": None}, 'identity must be a string, for example "alice"'),
        ("revoke_user", {"identity": b"a"}, 'identity must be a string, for example "alice"'),
        ("revoke_token", {"token_id": 5}, 'token_id must be a string, for example "7f3a91", got 5'),
        ("revoke_session", {"session_id": ""}, 'session_id must be a string, for example "7f3a91"'),
        ("block_user", {"identity": "", "until": inf}, "identity must be a string"),
        ("unblock_user", {"identity": ""}, "identity must be a string"),
        (
            "revoke_user",
            {"identity": "a", "issuer": ""},
            "issuer must be a string, for example \"https://id.example\", got ''",
        ),
        ("revoke_token", {"token_id": "t", "expires_at": "soon"}, "expires_at must be "),
        ("revoke_user", {"identity": "a", "renew_within": -1}, "renew_within must be "),
        ("revoke_token", {"token_id": "t", "renew_within": True}, "renew_within must be "),
        ("revoke_session", {"session_id": "s", "renew_within": inf}, "renew_within must be "),
        ("revoke_everybody", {"renew_within": "1"}, "renew_within must be "),
    ],
)
async def test_an_argument_that_can_be_none_is_named(
    method: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{method}: {message}"):
        await getattr(Here().revocations, method)(**arguments)


@cases(
    ("revoke", "words"),
    [
        (lambda r: r.revoke_user("alice"), "the user was revoked"),
        (lambda r: r.revoke_token("t"), "the token was revoked"),
        (lambda r: r.revoke_session("s"), "the session was revoked"),
        (lambda r: r.revoke_everybody(), "everybody was revoked"),
        (lambda r: r.block_user("alice", inf), "the user is blocked"),
    ],
)
async def test_a_refusal_says_what_was_revoked(revoke: Any, words: str) -> None:
    here = Here()
    await revoke(here.revocations)
    with pytest.raises(Denied) as caught:
        await here.revocations.check(alice(token_id="t", session_id="s"))
    assert (caught.value.reason, caught.value.detail) == (Reason.REVOKED, words)


class Down(MemoryStore):
    async def put_revocation(self, *_: Any, **__: Any) -> None:
        raise OSError("redis://user:hunter2@cache")

    async def get_revocations(self, subjects: Any, /) -> Any:
        raise OSError("redis://user:hunter2@cache")


async def test_a_store_that_fails_is_unavailable() -> None:
    revocations = Revocations(Down())
    for attempt in (
        revocations.check(alice()),
        revocations.revoke_user("alice"),
        revocations.revoke_token("t"),
        revocations.revoke_session("s"),
    ):
        with pytest.raises(Denied) as caught:
            await attempt
        assert caught.value.reason is Reason.UNAVAILABLE
        assert caught.value.detail == f"{revocations.store!r}: OSError"


def test_an_answer_that_is_too_short_admits_nobody() -> None:
    subjects = subjects_of(alice(token_id="t", session_id="s"))
    assert subjects == [("user", "alice"), ("token", "t"), ("session", "s")]
    with pytest.raises(ValueError, match="shorter"):
        check_revoked(alice(token_id="t"), [None])
    check_revoked(alice(token_id="t"), [None, None])


# Whose sockets end


async def test_the_sockets_of_a_user_end() -> None:
    here = Here()
    sockets = {name: Socket(Principal(name)) for name in ("alice", "bob")}
    fresh, gone = Socket(alice(NOW + 1)), Socket(alice())
    for socket in (*sockets.values(), fresh, gone):
        here.revocations.register(socket)
    here.revocations.unregister(gone)
    here.revocations.unregister(gone)
    await settled()
    await here.revocations.revoke_user("alice")
    await until(lambda: sockets["alice"].ends)
    await settled()
    assert sockets["alice"].ends == [Reason.REVOKED]
    assert (sockets["bob"].ends, fresh.ends, gone.ends) == ([], [], [])


async def test_names_of_one_kind_are_none_of_another() -> None:
    """Whoever is called as another's token, or session, stays."""
    here = Here()
    meant = Socket(Principal("x", token_id="t", session_id="s"))
    others = [
        Socket(Principal("t", token_id="s", session_id="x")),
        Socket(Principal("s", token_id="x", session_id="t")),
    ]
    for socket in (*others, meant):
        here.revocations.register(socket)
    await settled()
    await here.revocations.revoke_token("t")
    await until(lambda: meant.ends)
    assert [socket.ends for socket in others] == [[], []]
    await here.revocations.revoke_session("t")
    await until(lambda: others[1].ends)
    assert others[0].ends == []
    await here.revocations.revoke_user("t")
    await until(lambda: others[0].ends)


async def test_what_is_revoked_together_is_looked_for_together() -> None:
    here = Here()
    sockets = [Socket(alice(NOW, token_id=str(number))) for number in range(5)]
    for socket in sockets:
        here.revocations.register(socket)
    await settled()
    for number in (1, 3):
        await here.revocations.revoke_token(str(number))
    await until(lambda: sockets[3].ends)
    assert [bool(socket.ends) for socket in sockets] == [False, True, False, True, False]


async def test_of_two_times_for_one_user_the_later_one_counts() -> None:
    here = Here()
    socket = Socket(alice(NOW + 5))
    here.revocations.register(socket)
    await settled()
    for moment in (NOW + 10, NOW):
        here.clock.now = moment
        await here.revocations.revoke_user("alice")
    await until(lambda: socket.ends)


async def test_notices_of_single_sockets_hide_no_other() -> None:
    here = Here()
    socket = Socket(Principal("slot"))
    here.revocations.register(socket)
    await settled()
    for kind in ("slot", "ended"):
        await here.store.put_revocation(Notice((kind, "alice"), NOW), ttl=60)
    await here.revocations.revoke_user("slot")
    await until(lambda: socket.ends)


async def test_whom_it_is_compared_with_may_change() -> None:
    here = Here()
    socket = Socket(alice(NOW, token_id="old"))
    here.revocations.register(socket)
    socket.principal = alice(NOW, token_id="new")
    await settled()
    await here.revocations.revoke_token("old")
    await settled()
    assert socket.ends == []
    await here.revocations.revoke_token("new")
    await until(lambda: socket.ends)


async def test_what_was_revoked_before_it_listened_ends_them_too() -> None:
    here = Here()
    await here.revocations.revoke_user("alice")
    sockets = [Socket(Principal(name)) for name in ("bob", "alice")]
    for socket in sockets:
        here.revocations.register(socket)
    await until(lambda: sockets[1].ends)
    assert sockets[0].ends == []


async def test_after_it_was_cut_off_all_sockets_are_looked_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "uniform", lambda *_: 0.0)

    class Store(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[int] = []

        async def watch(self) -> Any:
            if not cut.is_set():
                yield None
                await cut.wait()
                raise OSError("gone")
            yield None
            await anyio.sleep_forever()

        async def get_revocations(self, subjects: Sequence[Any], /) -> Any:
            self.asked.append(len(subjects))
            return await super().get_revocations(subjects)

    cut, store = anyio.Event(), Store()
    revocations = Revocations(store, clock=lambda: NOW)
    sockets = [Socket(alice(NOW, token_id=str(number))) for number in range(250)]
    for socket in sockets:
        revocations.register(socket)
    await settled()
    store.asked.clear()
    await revocations.revoke_token("7")
    await revocations.revoke_token("249")
    await settled()
    assert not any(socket.ends for socket in sockets)
    cut.set()
    await until(lambda: sockets[249].ends)
    assert [number for number, socket in enumerate(sockets) if socket.ends] == [7, 249]
    assert store.asked == [400, 400, 200]  # not one by one, nor all at once


@pytest.mark.slow
@cases("how", ["a notice", "a look"])
async def test_others_run_while_a_crowd_is_ended(how: str) -> None:
    here = Here()
    sockets = [Socket(alice()) for _ in range(1_200)]
    if how == "a look":
        await here.revocations.revoke_user("alice")
    for socket in sockets:
        here.revocations.register(socket)
    if how == "a notice":
        await settled()
        await here.revocations.revoke_user("alice")
    seen = set()
    while not sockets[-1].ends:
        await anyio.lowlevel.checkpoint()
        seen.add(sum(bool(socket.ends) for socket in sockets))
    assert all(socket.ends == [Reason.REVOKED] for socket in sockets)
    assert 150 < len(seen) < 400, "neither many of them between two turns, nor one"


async def test_a_crowd_that_is_not_meant_is_passed_in_steps() -> None:
    here = Here()
    for _ in range(2_000):
        here.revocations.register(Socket(Principal("bob")))
    last = Socket(alice())
    here.revocations.register(last)
    await settled()
    await here.revocations.revoke_user("alice")
    turns = 0
    while not last.ends:
        await anyio.lowlevel.checkpoint()
        turns += 1
    assert turns >= 3


async def test_sockets_may_come_and_go_meanwhile() -> None:
    here = Here()

    class Leaving(Socket):
        def end(self, denied: Denied, /) -> None:
            super().end(denied)
            here.revocations.unregister(self)
            here.revocations.register(Socket(Principal("bob")))

    sockets = [Leaving(alice()) for _ in range(100)]
    for socket in sockets:
        here.revocations.register(socket)
    await settled()
    await here.revocations.revoke_user("alice")
    await until(lambda: sockets[-1].ends)
    assert all(socket.ends == [Reason.REVOKED] for socket in sockets)


def test_each_event_loop_looks_after_its_own_sockets(anyio_backend_name: str) -> None:
    here = Here()

    async def use() -> None:
        here.revocations.unregister(Socket(alice()))
        socket = Socket(alice())
        here.revocations.register(socket)
        await settled()
        await here.revocations.revoke_user("alice")
        await until(lambda: socket.ends)

    for _ in range(2):
        anyio.run(use, backend=anyio_backend_name)


# Configuration


class HalfAStore:
    async def put_revocation(self, *_: Any, **__: Any) -> None: ...

    async def get_revocations(self, *_: Any) -> Any: ...


@cases(
    ("store", "options", "named"),
    [
        (
            None,
            {},
            "Revocations: store must be a MemoryStore, .*, got None",
        ),
        (MemoryStore, {}, "Revocations: store"),
        (HalfAStore(), {}, "Revocations: store .* has no method watch"),
        (MemoryStore(), {"max_token_age": 0}, "Revocations: max_token_age"),
        (MemoryStore(), {"max_token_age": inf}, "Revocations: max_token_age"),
        (MemoryStore(), {"max_token_age": "1 day"}, "Revocations: max_token_age"),
        (MemoryStore(), {"renew_within": -1}, "Revocations: renew_within"),
        (MemoryStore(), {"clock": 5}, "Revocations: clock"),
    ],
)
def test_bad_configuration_is_named(store: Any, options: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{named}"):
        Revocations(store, **options)


def test_its_repr() -> None:
    assert repr(Revocations(MemoryStore())) == "<Revocations in <MemoryStore with 0 tickets>>"
