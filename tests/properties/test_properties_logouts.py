"""Whatever is sent to a `LogoutEndpoint`: it answers, raises nothing, tells its observers once, and
ends a login only where a good token says so."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Any

import pytest
from handshakes import NOW, SECRET, judge, jwt_verifier
from http_calls import Answer, call, request
from hypothesis import given
from hypothesis import strategies as st
from logouts import ISSUER, LOGOUT, SESSION_REVOKED, Site, post, push
from strategies import ANY_JSON, LATIN, base64url, examples
from strict import run

from asgi_wsauth import Event, LoggedOut, Reason, Refused

pytestmark = pytest.mark.slow

GOOD = {"iss": ISSUER, "aud": "chat", "iat": NOW - 5, "jti": "a", "exp": NOW + 115}
DISABLED = "https://schemas.openid.net/secevent/risc/event-type/account-disabled"
EVENTS = st.dictionaries(
    st.sampled_from([LOGOUT, SESSION_REVOKED, DISABLED]), st.just({}) | ANY_JSON, max_size=2
)
NAMES = st.sampled_from(["alice", "s1", ISSUER]) | ANY_JSON
SUBJECTS = st.dictionaries(
    st.sampled_from("format subject_type iss sub id email user session".split()),
    st.sampled_from(["iss_sub", "iss-sub", "opaque", "email", "complex"]) | NAMES,
)
GOOD_SUBJECTS: list[Any] = [
    {"format": "iss_sub", "iss": ISSUER, "sub": "alice"},
    {"format": "opaque", "id": "s1"},
    {"user": {"format": "opaque", "id": "alice"}},
]
CLAIMS = {
    "events": EVENTS | ANY_JSON,
    "sub": NAMES,
    "sid": NAMES,
    "nonce": ANY_JSON,
    "sub_id": SUBJECTS | st.dictionaries(st.sampled_from(["user", "session"]), SUBJECTS) | ANY_JSON,
    **{name: st.just(value) | ANY_JSON for name, value in GOOD.items()},
}
TYPES = st.sampled_from(["logout+jwt", "secevent+jwt", "JWT", "at+jwt"])


def signed(claims: dict[str, Any], typ: str) -> str:
    """By hand: PyJWT would not sign all of them."""
    header = {"alg": "HS256", "typ": typ}
    said = f"{base64url(json.dumps(header))}.{base64url(json.dumps(claims))}"
    return f"{said}.{base64url(hmac.new(SECRET.encode(), said.encode(), sha256).digest())}"


def tokens() -> st.SearchStrategy[tuple[str, dict[str, Any], str]]:
    """Each with its claims and its `typ`: a good one, of which up to two claims are others."""
    events = st.lists(st.sampled_from([LOGOUT, SESSION_REVOKED, DISABLED]), min_size=1, unique=True)
    base = st.builds(
        lambda names, subject: {
            **GOOD,
            "events": {name: {} for name in names},
            "sub": "alice",
            "sub_id": subject,
        },
        events,
        st.sampled_from(GOOD_SUBJECTS),
    )
    changed = st.lists(st.sampled_from(sorted(CLAIMS)), max_size=2, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: CLAIMS[name] for name in names})
    )
    made = st.builds(lambda good, others: {**good, **others}, base, changed)
    return st.builds(lambda claims, typ: (signed(claims, typ), claims, typ), made, TYPES)


def check(answer: Answer, seen: list[Event], done: int) -> None:
    assert answer.status in (done, 400)
    if answer.status == done:
        assert all(isinstance(event, LoggedOut) for event in seen)
    else:
        (event,) = seen
        assert isinstance(event, Refused)
        assert event.reason in (Reason.INVALID, Reason.MALFORMED, Reason.EXPIRED)


@given(tokens())
@examples(300)
def test_a_logout_token_ends_what_it_names_or_nothing(made: tuple[str, Any, str]) -> None:
    token, claims, typ = made

    async def send() -> None:
        seen: list[Event] = []
        site = Site(observers=[seen.append])
        answer = await post(site.endpoint, token)
        check(answer, seen, 200)
        assert len(seen) == 1
        good = answer.status == 200
        if good:
            assert typ in ("logout+jwt", "JWT")
            assert claims["events"][LOGOUT].keys() is not None
            assert "nonce" not in claims
            assert isinstance(claims.get("sid"), str) or claims.get("sub") is not None
        assert await site.ended("bob", "s1") is (good and claims.get("sid") == "s1")
        named = claims.get("sid") is None and claims.get("sub") == "alice"
        assert await site.ended("alice") is (good and named)

    run(send())


@given(tokens())
@examples(300)
def test_a_security_event_raises_nothing(made: tuple[str, Any, str]) -> None:
    token, _, typ = made

    async def send() -> None:
        seen: list[Event] = []
        site = Site(observers=[seen.append])
        answer = await push(site.endpoint, token)
        check(answer, seen, 202)
        assert answer.status == 400 or typ in ("secevent+jwt", "JWT")
        assert not await site.ended("bob", "s2")

    run(send())


@given(tokens())
@examples(200)
def test_what_tells_of_events_opens_no_socket(made: tuple[str, Any, str]) -> None:
    token, claims, typ = made
    if claims.get("events") is None and typ in ("JWT", "at+jwt"):
        return
    verdict = run(judge(jwt_verifier(issuer=ISSUER, audience="chat"), token))
    assert verdict in (None, Reason.INVALID)


@given(
    st.dictionaries(
        st.sampled_from(["content-type", "content-length", "content-encoding"]),
        st.sampled_from(
            ["application/x-www-form-urlencoded", "application/secevent+jwt", "1", "gzip"]
        )
        | LATIN.map(lambda value: value.decode("latin-1")),
    ),
    st.binary(max_size=50) | LATIN.map(b"logout_token=".__add__),
    st.sampled_from(["POST", "POST", "GET"]),
)
@examples(300)
def test_whatever_is_sent_is_answered(headers: dict[str, str], body: bytes, method: str) -> None:
    async def send() -> None:
        seen: list[Event] = []
        scope = request(method, headers=list(headers.items()))
        answer = await call(Site(observers=[seen.append]).endpoint, scope, body)
        assert answer.status in (400, 405, 413, 415)
        assert [event.name for event in seen] == ["refused"]

    run(send())
