"""A session of Starlette's is a signed cookie: what it says counts as long as it is young."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from typing import Any

import itsdangerous
import pytest
from cases import cases
from handshakes import NOW, authenticator, judge, jwt_verifier, mint, websocket
from starlette.applications import Starlette
from starlette.datastructures import Secret
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from asgi_wsauth import (
    ConfigurationError,
    Denied,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
)
from asgi_wsauth.contrib.starlette import StarletteSession

KEY = "Zk4vQ9wT2mX7bN1sR6yD"
OTHER = "h8LpE3cJ5gA0uF7iWt2V"
USER = "user_id"


class SignedAt(itsdangerous.TimestampSigner):
    """Signs at another time than now."""

    age = 0

    def get_timestamp(self) -> int:
        return int(NOW) - self.age


def signed(session: Any, *, key: str = KEY, age: int = 0) -> str:
    """The cookie of a session, as `SessionMiddleware` made it so many seconds ago."""
    signer = SignedAt(key)
    signer.age = age
    data = session if isinstance(session, bytes) else b64encode(json.dumps(session).encode())
    return signer.sign(data).decode()


def resigned(text: str) -> str:
    """With a good signature, and a bad time or none."""
    return itsdangerous.Signer(KEY).sign(text).decode()


def sessions(key: Any = KEY, identity_key: Any = USER, **options: Any) -> StarletteSession:
    return StarletteSession(key, identity_key=identity_key, **{"clock": lambda: NOW, **options})


async def admitted(cookie: str, **options: Any) -> Principal:
    principal = await judge(sessions(**options), cookie)
    assert isinstance(principal, Principal), principal
    return principal


@pytest.mark.anyio
class TestWho:
    @cases(
        ("session", "identity_key", "identity"),
        [
            ({USER: "alice"}, USER, "alice"),
            ({USER: 7, "cart": [1]}, USER, "7"),
            ({"user": {"sub": "a|1"}}, ("user", "sub"), "a|1"),
            ({"user.sub": "alice"}, "user.sub", "alice"),
        ],
    )
    async def test_the_identity_is_where_the_app_put_it(
        self, session: Any, identity_key: Any, identity: str
    ) -> None:
        principal = await admitted(signed(session, age=60), identity_key=identity_key)
        assert (principal.identity, principal.method) == (identity, "session")
        assert (principal.issued_at, principal.expires_at) == (NOW - 60, NOW - 60 + 14 * 86400)
        assert (principal.session_id, principal.scopes) == (None, ())

    @cases(
        ("scopes", "read"),
        [(None, ()), ("a b\u2003c", ("a", "b\u2003c")), (["a b"], ("a b",)), ([], ())],
    )
    async def test_scopes_are_a_list_or_a_string(self, scopes: Any, read: tuple[str]) -> None:
        principal = await admitted(signed({USER: "a", "may": scopes}), scopes_key="may")
        assert principal.scopes == read

    async def test_claims_are_what_the_options_name(self) -> None:
        """Other parts of a session may be nobody's business: claims travel with tickets."""
        session = {"user": {"sub": "alice", "name": "Alice"}, "may": "a", "refresh_token": "x"}
        options = {"identity_key": ("user", "sub"), "scopes_key": "may", "session_id_key": None}
        principal = await admitted(signed(session), **options)
        assert principal.claims == {"user": session["user"], "may": "a"}

    async def test_the_logins_id_is_for_revocations(self) -> None:
        principal = await admitted(signed({USER: "a", "sid": "7f3a91"}), session_id_key="sid")
        assert principal.session_id == "7f3a91"
        revocations = Revocations(MemoryStore())
        await revocations.revoke_session("7f3a91")
        with pytest.raises(Denied):
            await revocations.check(principal)

    async def test_for_ever_is_for_ever(self) -> None:
        principal = await admitted(signed({USER: "a"}, age=10**9), max_age=None)
        assert principal.expires_at is None

    @cases("key", [KEY, KEY.encode(), Secret(KEY), [OTHER, KEY], (KEY, Secret(OTHER))])
    async def test_several_keys_count_while_one_replaces_the_other(self, key: Any) -> None:
        await admitted(signed({USER: "alice"}), key=key)


@pytest.mark.anyio
class TestWhoNot:
    @cases(
        ("cookie", "reason"),
        [
            (signed({}), Reason.MISSING),
            (signed({"cart": [1]}), Reason.MISSING),
            (signed({USER: None}), Reason.MISSING),
            (signed({USER: ""}), Reason.MISSING),
            (signed({USER: True}), Reason.INVALID),
            (signed({USER: 1.5}), Reason.INVALID),
            (signed({USER: ["alice"]}), Reason.INVALID),
            (signed({USER: {"id": 1}}), Reason.INVALID),
            (signed({USER: "alice"}, key=OTHER), Reason.INVALID),
            (signed({USER: "alice"})[:-1] + "A", Reason.INVALID),
            ("x" + signed({USER: "alice"}), Reason.INVALID),
            (signed({USER: "alice"}, age=14 * 86400), Reason.EXPIRED),
            (signed({}, age=14 * 86400 + 1), Reason.EXPIRED),
            (signed({USER: "alice"}, age=14 * 86400, key=OTHER), Reason.INVALID),
            (signed(["alice"]), Reason.INVALID),
            (signed(b"bm8gSlNPTg=="), Reason.INVALID),
            (signed(b64encode(b"[" * 100_000)), Reason.INVALID),
        ],
    )
    async def test_what_is_refused(self, cookie: str, reason: Reason) -> None:
        assert await judge(sessions(), cookie) is reason

    @cases("cookie", ["null", "x", "a.b.c", "%00", resigned("x"), resigned("x." + "A" * 30)])
    async def test_garbage_in_its_cookie_is_invalid(self, cookie: str) -> None:
        assert await decide(cookie) is Reason.INVALID

    @cases("scopes", [{"admin": False}, 1, True, [1], ["a", None]])
    async def test_other_scopes_are_invalid(self, scopes: Any) -> None:
        cookie = signed({USER: "alice", "may": scopes})
        assert await judge(sessions(scopes_key="may"), cookie) is Reason.INVALID

    @cases(
        ("session_id", "reason"),
        [(None, Reason.REVOKED), ("", Reason.INVALID), (7, Reason.INVALID)],
    )
    async def test_a_login_that_nothing_could_end_is_refused(
        self, session_id: Any, reason: Reason
    ) -> None:
        cookie = signed({USER: "alice", "sid": session_id})
        assert await judge(sessions(session_id_key="sid"), cookie) is reason

    @cases("path", [("user", "sub"), ("user", "sub", "id")])
    async def test_a_path_goes_through_objects_only(self, path: Any) -> None:
        for user in ("text", ["sub"], {"sub": None}, None):
            cookie = signed({"user": user})
            assert await judge(sessions(identity_key=path), cookie) is Reason.MISSING

    @cases("presented", ["", "x", "null", "a.b.c", "wst_" + "a" * 43])
    async def test_what_looks_like_none_is_not_mine(self, presented: str) -> None:
        assert await judge(sessions(), presented) is None

    async def test_a_jwt_is_not_mine(self) -> None:
        assert await judge(sessions(), mint()) is None


async def decide(cookie: str, *others: Any) -> Principal | Reason:
    verifier = sessions()
    auth = authenticator(
        verifier, *others, sources=[verifier.cookie], allowed_origins=["https://chat.example"]
    )
    headers = [("cookie", f"session={cookie}"), ("origin", "https://chat.example")]
    try:
        admission = await auth.authenticate(HTTPConnection(websocket(headers=headers)))
    except Denied as denied:
        assert cookie not in str(denied)
        return denied.reason
    principal: Principal = admission.principal
    return principal


@pytest.mark.anyio
async def test_before_a_jwt_verifier_it_gets_its_own() -> None:
    for session in ({USER: "a"}, {USER: "ab"}, {USER: "abc"}):  # padded, and not
        assert isinstance(await decide(signed(session), jwt_verifier()), Principal)


@pytest.mark.anyio
async def test_it_reads_what_starlettes_own_middleware_writes() -> None:
    async def login(request: Request) -> Response:
        request.session[USER] = "José"
        return Response()

    middleware = Middleware(SessionMiddleware, secret_key=KEY, session_cookie="login", max_age=60)
    with TestClient(Starlette(routes=[Route("/", login)], middleware=[middleware])) as client:
        client.get("/")
        (cookie,) = client.cookies.values()
    verifier = StarletteSession(KEY, identity_key=USER, session_cookie="login", max_age=60)
    assert repr(verifier.cookie) == "cookie login"
    principal = await judge(verifier, cookie)
    assert isinstance(principal, Principal)
    assert principal.identity == "José"


class TestConfiguration:
    @cases("key", ["", "short", "changeme-changeme", None, 7, [], [KEY, "x"], Secret("short")])
    def test_a_key_that_can_be_guessed_is_refused(self, key: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^StarletteSession: secret_key ") as caught:
            sessions(key)
        assert KEY not in str(caught.value)

    def test_no_repr_has_the_key(self) -> None:
        assert repr(sessions()) == "<StarletteSession session>"

    def test_without_the_library_it_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "itsdangerous", None)
        extra = r"pip install 'asgi-wsauth\[itsdangerous\]'"
        with pytest.raises(ConfigurationError, match=extra):
            sessions()
