"""Opaque tokens, looked up in a database of the app's."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256, sha512
from secrets import token_urlsafe
from typing import Any
from uuid import UUID, uuid4

import pytest
from cases import cases
from handshakes import NOW, authenticator, judge, mint, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Credential,
    Denied,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
)
from asgi_wsauth.contrib.database_token import DatabaseToken
from asgi_wsauth.verifiers.chain import Misuse

TOKEN = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"
DIGEST = sha256(TOKEN.encode()).hexdigest()


class Table:
    """What a lookup finds, and what it was asked for."""

    def __init__(self, found: Any, *, key: str = DIGEST) -> None:
        self.rows = {key: found}
        self.asked: list[str] = []

    async def __call__(self, key: str) -> Any:
        self.asked.append(key)
        found = self.rows.get(key)
        if isinstance(found, Exception):
            raise found
        return found


async def principal_of(found: Any, **options: Any) -> Principal:
    principal = await judge(DatabaseToken(Table(found), **options), TOKEN)
    assert isinstance(principal, Principal), principal
    return principal


@pytest.mark.anyio
class TestLookup:
    @cases(
        ("digest", "key"),
        [
            ("sha256", DIGEST),
            ("sha512", sha512(TOKEN.encode()).hexdigest()),
            (lambda token: token[::-1], TOKEN[::-1]),
        ],
    )
    async def test_is_asked_for_the_digest_and_never_the_token(self, digest: Any, key: str) -> None:
        table = Table({"identity": "alice"}, key=key)
        verifier = DatabaseToken(table, digest=digest)
        principal = await judge(verifier, TOKEN)
        assert isinstance(principal, Principal)
        assert table.asked == [key]
        assert principal.token_id == verifier.token_id(TOKEN) == key

    async def test_is_asked_for_tokens_that_are_kept_as_they_are(self) -> None:
        table = Table({"identity": "alice"}, key=TOKEN)
        principal = await judge(DatabaseToken(table, digest=None), TOKEN)
        assert isinstance(principal, Principal)
        assert table.asked == [TOKEN]
        assert principal.token_id == DIGEST

    async def test_is_asked_again_in_a_recheck(self) -> None:
        table = Table({"identity": "alice"})
        verifier = DatabaseToken(table)
        conn = HTTPConnection(websocket())
        principal = await verifier.recheck(Credential(TOKEN), conn)
        assert principal is not None
        assert principal.identity == "alice"
        table.rows.clear()
        with pytest.raises(Denied, match="no such token"):
            await verifier.recheck(Credential(TOKEN), conn)

    async def test_its_principal_is_the_principal(self) -> None:
        alice = Principal("alice", method="knox")
        assert await principal_of(alice) is alice

    async def test_a_mapping_has_what_a_principal_has(self) -> None:
        row = {
            "identity": "alice",
            "display_name": "Alice",
            "issuer": "https://id.example",
            "scopes": ["chat"],
            "claims": {"team": 7},
            "issued_at": NOW - 60,
            "expires_at": NOW + 60,
            "token_id": "7",
            "session_id": "s",
            "is_active": True,
            "stored": DIGEST,
        }
        principal = await principal_of(row)
        for name in row.keys() - {"is_active", "stored", "scopes"}:
            assert getattr(principal, name) == row[name]
        assert (principal.scopes, principal.method) == (("chat",), "token")

    @cases(
        ("given", "identity"),
        [("alice", "alice"), (7, "7"), (UUID(int=7), "00000000-0000-0000-0000-000000000007")],
    )
    async def test_an_identity_is_a_string_a_number_or_a_uuid(
        self, given: Any, identity: str
    ) -> None:
        assert (await principal_of({"identity": given})).identity == identity

    @cases("zone", [UTC, timezone(timedelta(hours=5))])
    async def test_a_time_may_be_a_datetime(self, zone: Any) -> None:
        when = datetime.fromtimestamp(NOW, zone)
        principal = await principal_of({"identity": 1, "expires_at": when, "issued_at": when})
        assert (principal.expires_at, principal.issued_at) == (NOW, NOW)

    async def test_null_is_absent(self) -> None:
        row = dict.fromkeys(["expires_at", "scopes", "token_id", "display_name"])
        principal = await principal_of({"identity": "alice", **row})
        assert (principal.expires_at, principal.scopes) == (None, ())
        assert (principal.token_id, principal.display_name) == (DIGEST, "alice")

    async def test_its_token_can_be_revoked_by_the_digest(self) -> None:
        revocations = Revocations(MemoryStore())
        await revocations.revoke_token(DIGEST)
        with pytest.raises(Denied):
            await revocations.check(await principal_of({"identity": "alice"}))


@pytest.mark.anyio
class TestRefusals:
    @cases(
        ("found", "reason"),
        [
            (None, Reason.INVALID),
            (ConnectionError(f"no answer for {TOKEN}"), Reason.UNAVAILABLE),
            (TimeoutError(), Reason.UNAVAILABLE),
            (KeyError("identity"), Reason.UNAVAILABLE),
            (Denied(Reason.REVOKED, "logged out elsewhere"), Reason.REVOKED),
            ({"identity": "alice", "is_active": False}, Reason.REVOKED),
            ({"identity": "alice", "is_active": 0}, Reason.REVOKED),
            ({"identity": "alice", "is_active": None}, Reason.REVOKED),
            ({"identity": "alice", "is_active": "no"}, Reason.REVOKED),
            ({"identity": "alice", "stored": DIGEST.upper()}, Reason.INVALID),
            ({"identity": "alice", "stored": DIGEST + " "}, Reason.INVALID),
            ({"identity": "alice", "stored": None}, Reason.INVALID),
        ],
    )
    async def test_what_is_refused(self, found: Any, reason: Reason) -> None:
        assert await judge(DatabaseToken(Table(found)), TOKEN) is reason

    async def test_some_databases_have_1_for_true(self) -> None:
        assert (await principal_of({"identity": "alice", "is_active": 1})).identity == "alice"

    async def test_an_expired_token_is_expired(self) -> None:
        auth = authenticator(DatabaseToken(Table({"identity": "alice", "expires_at": NOW - 1})))
        with pytest.raises(Denied) as denied:
            await auth.authenticate(HTTPConnection(websocket(f"token={TOKEN}")))
        assert denied.value.reason is Reason.EXPIRED

    @cases(
        "found",
        [
            "alice",
            7,
            ("alice",),
            {},
            {"user": "alice"},
            {"identity": None},
            {"identity": ""},
            {"identity": True},
            {"identity": 1.5},
            {"identity": b"alice"},
            {"identity": "alice", "user": 1},
            {"identity": "alice", "scopes": "chat"},
            {"identity": "alice", "scopes": {"admin": False}},
            {"identity": "alice", "expires_at": "tomorrow"},
            {"identity": "alice", "expires_at": True},
            {"identity": "alice", "expires_at": datetime(2027, 1, 1)},
            {"identity": "alice", "session_id": 7},
        ],
    )
    async def test_what_no_lookup_returns_is_an_error_that_admits_nobody(self, found: Any) -> None:
        auth = authenticator(DatabaseToken(Table(found)))
        with pytest.raises(Denied) as denied:
            await auth.authenticate(HTTPConnection(websocket(f"token={TOKEN}")))
        assert denied.value.reason is Reason.ERROR
        assert denied.value.detail.startswith("DatabaseToken: lookup ")
        assert TOKEN not in denied.value.detail

    async def test_a_lookup_that_is_not_async_is_an_error(self) -> None:
        with pytest.raises(Misuse, match="must be an async function"):
            await judge(DatabaseToken(lambda key: None), TOKEN)  # type: ignore[arg-type]

    async def test_a_digest_that_is_no_string_is_an_error_and_no_bad_token(self) -> None:
        digest: Any = lambda token: sha256(token.encode()).digest()  # noqa: E731
        with pytest.raises(Misuse, match="digest must return a string, got a bytes; write"):
            await judge(DatabaseToken(Table({"identity": "alice"}), digest=digest), TOKEN)


@pytest.mark.anyio
class TestShape:
    @cases("presented", [mint(), "wst_x", "wsi_x", "wsk_x"])
    async def test_what_looks_like_another_kind_is_not_mine(self, presented: str) -> None:
        table = Table(None)
        assert await judge(DatabaseToken(table), presented) is None
        assert table.asked == []

    @cases("presented", ["x", TOKEN[:-1], TOKEN + "0", TOKEN.upper(), TOKEN + "\n", mint()])
    async def test_a_pattern_says_what_is_mine(self, presented: str) -> None:
        table = Table({"identity": "alice"})
        verifier = DatabaseToken(table, pattern="[0-9a-f]{40}")
        assert await judge(verifier, presented) is None
        assert table.asked == []
        assert isinstance(await judge(verifier, TOKEN), Principal)


@pytest.mark.anyio
async def test_a_token_of_fastapi_users() -> None:
    """Its database has them as they are, its users UUIDs."""
    token, user, created = token_urlsafe(), uuid4(), datetime.fromtimestamp(NOW, UTC)
    row = {
        "identity": user,
        "issued_at": created,
        "expires_at": created + timedelta(hours=1),
        "stored": token,
    }
    verifier = DatabaseToken(Table(row, key=token), digest=None, pattern="[A-Za-z0-9_-]{43}")
    principal = await judge(verifier, token)
    assert isinstance(principal, Principal)
    assert (principal.identity, principal.expires_at) == (str(user), NOW + 3600)
    assert await judge(verifier, token_urlsafe()) is Reason.INVALID
    assert await judge(verifier, mint()) is None


class TestConfiguration:
    @cases("digest", ["md5", "", "SHA256", 256, str, b"sha256"])
    def test_a_digest_is_one_of_two_or_a_function(self, digest: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^DatabaseToken: digest must be "):
            DatabaseToken(Table(None), digest=digest)

    @cases("pattern", ["", "(", "[", 40])
    def test_a_pattern_is_a_regular_expression(self, pattern: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^DatabaseToken: pattern must be a regular"):
            DatabaseToken(Table(None), pattern=pattern)

    def test_its_repr_says_what_it_is(self) -> None:
        assert repr(DatabaseToken(Table(None))) == "<DatabaseToken>"

    def test_a_mapping_may_have_all_of_a_principal(self) -> None:
        """Its method says how it was proved."""
        from asgi_wsauth.contrib import database_token

        arguments = inspect.signature(Principal).parameters.keys()
        documented = {name for name in arguments if f"`{name}`" in (DatabaseToken.__doc__ or "")}
        assert documented == arguments - {"login_method"}
        assert database_token.__all__ == ["DatabaseToken", "Digest", "Lookup"]
