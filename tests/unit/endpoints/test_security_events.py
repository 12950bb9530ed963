"""LogoutEndpoint: Security Event Tokens (RFC 8417) that are pushed to it (RFC 8935), of which some
say that logins have ended, and whose (RFC 9493)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cases import cases
from handshakes import NOW, jwt_verifier, mint
from http_calls import call, request
from issuer import issuing
from logouts import (
    ISSUER,
    LOGOUT,
    SECEVENT,
    SESSION_REVOKED,
    Site,
    event_token,
    logout_token,
    post,
    push,
)

from asgi_wsauth import JWKS, Event, JWTVerifier, LoggedOut, Principal, Reason, Refused

pytestmark = pytest.mark.anyio

RISC = "https://schemas.openid.net/secevent/risc/event-type/"
DISABLED = f"{RISC}account-disabled"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"

ALICE = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
SESSION = {"format": "opaque", "id": "s1"}
DESCRIPTIONS = {
    "invalid_key": "no key of the issuer verifies the token",
    "invalid_issuer": "the token's issuer is not the one that is expected here",
    "invalid_audience": "the token is not for this recipient",
}
NOT_VALID = "the token is not valid, or says nothing that is understood here"


def by(**options: Any) -> JWTVerifier:
    return jwt_verifier(**{"issuer": ISSUER, "audience": "chat", **options})


# What ends


@cases(
    ("event", "subject", "ended"),
    [
        (DISABLED, ALICE, {"alice"}),
        (f"{RISC}account-purged", ALICE, {"alice"}),
        (f"{RISC}sessions-revoked", ALICE, {"alice"}),
        (DISABLED, {"format": "opaque", "id": "alice"}, {"alice"}),
        (DISABLED, {"format": "complex", "user": ALICE, "tenant": SESSION}, {"alice"}),
        (SESSION_REVOKED, ALICE, {"alice"}),
        (SESSION_REVOKED, SESSION, {"s1"}),
        (SESSION_REVOKED, {"format": "opaque", "id": "alice"}, {"alice"}),
        (SESSION_REVOKED, {"format": "complex", "session": SESSION, "user": ALICE}, {"s1"}),
        (SESSION_REVOKED, {"session": SESSION}, {"s1"}),
        (SESSION_REVOKED, {"format": "complex", "user": ALICE}, {"alice"}),
        (SESSION_REVOKED, {"user": ALICE, "device": {"format": "opaque", "id": "s1"}}, {"alice"}),
        (
            SESSION_REVOKED,
            {"session": {"format": "jwt_id", "iss": ISSUER, "jti": "s1"}, "user": ALICE},
            {"alice"},
        ),
    ],
)
async def test_what_an_event_ends(event: str, subject: Any, ended: set[str]) -> None:
    site = Site()
    answer = await push(site.endpoint, event_token(subject, event))
    assert (answer.status, answer.body, answer.header("cache-control")) == (202, b"", "no-store")
    assert await site.ended("alice") is ("alice" in ended)
    assert await site.ended("bob", "s1") is ("s1" in ended)
    assert not await site.ended("bob", "s2")
    assert not await site.ended("alice", "s1", issuer="https://other.example")
    assert not await site.ended("alice", issued_at=NOW + 1)


@cases(
    "claims",
    [
        {"events": {DISABLED: {"subject": {**ALICE, "format": None, "subject_type": "iss-sub"}}}},
        {"events": {DISABLED: {"subject": ALICE}}},
        {"events": {SESSION_REVOKED: {"subject": {"user": ALICE}}}},
        {"sub": "alice"},
        {"sub_id": ALICE, "events": {VERIFICATION: {"state": "x"}, DISABLED: {}}},
        {"sub_id": ALICE, "events": {SESSION_REVOKED: {}, DISABLED: {}}},
    ],
)
async def test_where_subjects_stand_in_drafts_and_with_other_events(claims: Any) -> None:
    events = claims.get("events", {DISABLED: {}})
    for payload in events.values():
        if "subject" in payload:
            given = payload["subject"]
            payload["subject"] = {name: v for name, v in given.items() if v is not None}
    seen: list[Event] = []
    site = Site(observers=[seen.append])
    token = event_token(None, **{**claims, "events": events})
    assert (await push(site.endpoint, token)).status == 202
    assert await site.ended("alice")
    (event,) = seen
    assert isinstance(event, LoggedOut)
    assert (event.told_by, event.subject, event.identity) == ("security_event", "user", "alice")


@cases("event", [VERIFICATION, "urn:other", LOGOUT, f"{RISC}account-enabled"])
async def test_other_events_are_acknowledged(event: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "asgi_wsauth")
    site = Site()
    assert (await push(site.endpoint, event_token(ALICE, event))).status == 202
    assert not await site.ended("alice")
    (record,) = caplog.records
    assert record.getMessage() == f"{site.endpoint!r}: a token ended no login: {event!r}"


async def test_a_jti_counts_once_and_is_acknowledged_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As the transmitter may not have heard the answer (RFC 8935 section 2)."""
    caplog.set_level(logging.INFO, "asgi_wsauth")
    seen: list[Event] = []
    site, token = Site(observers=[seen.append]), event_token(ALICE)
    for _ in range(2):
        assert (await push(site.endpoint, token)).status == 202
    assert [event.name for event in seen] == ["logged_out"]
    (record,) = caplog.records
    told = f"{site.endpoint!r}: a token was received again, and ended nothing"
    assert record.getMessage() == told


async def test_a_logout_token_with_that_jti_is_another_one() -> None:
    site = Site()
    assert (await push(site.endpoint, event_token(SESSION))).status == 202
    assert (await post(site.endpoint, logout_token())).status == 200


@cases(("age", "status"), [(30 * 86400 + 29, 202), (30 * 86400 + 30, 400)])
async def test_without_an_exp_it_counts_for_as_long_as_a_login_may_live(
    age: float, status: int
) -> None:
    answer = await push(Site().endpoint, event_token(ALICE, iat=NOW - age))
    assert answer.status == status
    if status == 400:
        error = {"err": "invalid_request", "description": "the token came too late"}
        assert answer.json == error


async def test_one_that_is_signed_by_keys_that_are_published() -> None:
    with issuing() as issuer:
        issuer.add_key("1")
        keys = JWKS(f"{issuer.url}/jwks", observers=[])
        options: dict[str, Any] = {"algorithms": ["ES256"], "jwks": keys, "clock": lambda: NOW}
        verifier = JWTVerifier.from_oidc(issuer.url, audience="chat", **options)
        site = Site(verifier=verifier)
        claims = {"iss": issuer.url, "aud": "chat", "jti": "a", "iat": NOW, "exp": None}
        subject = {"format": "iss_sub", "iss": issuer.url, "sub": "bob"}
        token = issuer.token("1", **claims, sub_id=subject, sub=None, events={DISABLED: {}})
        assert (await push(site.endpoint, token)).status == 202
        assert await site.ended("bob", issuer=issuer.url)


# Who is meant


async def test_an_email_is_an_identity_where_logins_have_it_for_one() -> None:
    subject = {"format": "email", "email": "alice@example.com"}
    site = Site(verifier=by(identity_claim="email"))
    assert (await push(site.endpoint, event_token(subject))).status == 202
    assert await site.ended("alice@example.com")
    assert not await site.ended("alice@example.com", issuer="https://other.example")


async def test_each_event_counts() -> None:
    """In whatever order: these two name what they end themselves."""
    for turned in (False, True):
        events: Any = [(SESSION_REVOKED, {"subject": SESSION}), (DISABLED, {"subject": ALICE})]
        site = Site()
        token = event_token(None, events=dict(events[::-1] if turned else events))
        assert (await push(site.endpoint, token)).status == 202
        assert await site.ended("alice")
        assert await site.ended("bob", "s1")


async def test_a_hook_says_who_is_meant() -> None:
    async def identity_of(subject: Any) -> str | Principal | None:
        asked.append(subject)
        known = {
            "alice@example.com": "alice",
            "anywhere@example.com": Principal("bob"),
            "elsewhere@example.com": Principal("eve", issuer="https://other.example"),
        }
        return known.get(subject.get("email"))

    asked: list[Any] = []
    seen: list[Event] = []
    site = Site(identity_of=identity_of, observers=[seen.append])
    for number, name in enumerate(["alice", "anywhere", "elsewhere", "nobody"]):
        subject = {"format": "email", "email": f"{name}@example.com"}
        token = event_token(subject, DISABLED, jti=str(number))
        assert (await push(site.endpoint, token)).status == 202
        assert asked.pop() == subject
    assert [(event.identity, getattr(event, "subject", None)) for event in seen] == [
        ("alice", "user"),
        ("bob", "user"),
        ("eve", "user"),
    ]
    assert await site.ended("alice")
    assert not await site.ended("alice", issuer="https://other.example")
    assert await site.ended("bob")
    assert await site.ended("bob", issuer=None)
    assert await site.ended("eve", issuer="https://other.example")
    assert not await site.ended("eve")


async def test_a_hook_is_given_the_format_of_a_draft_as_the_rfc_has_it() -> None:
    async def identity_of(subject: Any) -> str:
        asked.append(subject["format"])
        return "alice"

    asked: list[str] = []
    site = Site(identity_of=identity_of)
    subject = {"subject_type": "iss-sub", "iss": "https://other.example", "sub": "501"}
    events = {DISABLED: {"subject": subject}}
    assert (await push(site.endpoint, event_token(None, events=events))).status == 202
    assert asked == ["iss_sub"]
    assert await site.ended("alice", issuer="https://other.example"), "at the subject's issuer"
    assert not await site.ended("alice")
    token = event_token(None, DISABLED, sub="501", jti="another")
    assert (await push(site.endpoint, token)).status == 202
    assert asked == ["iss_sub", "iss_sub"], "a sub alone, too"
    assert await site.ended("alice")


async def test_a_hook_that_knows_nobody_by_an_id_leaves_it_to_be_a_sessions() -> None:
    async def identity_of(subject: Any) -> None:
        assert subject["id"] == "s1"

    site = Site(identity_of=identity_of)
    assert (await push(site.endpoint, event_token(SESSION))).status == 202
    assert await site.ended("bob", "s1")
    assert not await site.ended("s1")


async def test_an_id_is_only_a_sessions_where_users_are_named_otherwise() -> None:
    site = Site(verifier=by(identity_claim="oid"))
    assert (await push(site.endpoint, event_token(SESSION))).status == 202
    assert await site.ended("bob", "s1")
    assert not await site.ended("s1")


async def test_a_hook_that_fails_acknowledges_nothing() -> None:
    async def identity_of(subject: Any) -> str:
        raise OSError("the database is down")

    site = Site(identity_of=identity_of)
    answer = await push(site.endpoint, event_token(SESSION))
    assert (answer.status, answer.json) == (503, {"error": "verifier_unavailable"})
    assert not await site.ended("bob", "s1")


@cases("hooked", [False, True])
@cases("issuers", [ISSUER, [ISSUER, "https://other.example"]])
async def test_of_another_issuers_users_it_is_believed_where_that_one_is_trusted(
    issuers: Any, hooked: bool
) -> None:
    async def identity_of(subject: Any) -> str:
        return str(subject["sub"])

    hook = {"identity_of": identity_of} if hooked else {}
    site = Site(verifier=by(issuer=issuers), **hook)
    subject = {**ALICE, "iss": "https://other.example"}
    answer = await push(site.endpoint, event_token(subject))
    believed = hooked or issuers != ISSUER
    assert answer.status == (202 if believed else 400)
    assert await site.ended("alice", issuer="https://other.example") is believed
    assert not await site.ended("alice")


# What is refused


@cases(
    "subject",
    [
        None,
        "alice",
        ["alice"],
        {},
        {"sub": "alice"},
        {"format": 7},
        {"format": "iss_sub"},
        {"format": "iss_sub", "iss": ISSUER},
        {"format": "iss_sub", "iss": ISSUER, "sub": ""},
        {"format": "iss_sub", "iss": [ISSUER], "sub": "alice"},
        {"format": "opaque"},
        {"format": "opaque", "id": 7},
        {"format": "email", "email": "alice@example.com"},
        {"format": "email"},
        {"format": "phone_number", "phone_number": "+12065550100"},
        {"format": "complex"},
        {"format": "complex", "tenant": SESSION},
        {"format": "complex", "session": "s1"},
        {"format": "complex", "user": {"format": "complex", "user": ALICE}},
        {"session": {"format": "jwt_id", "iss": ISSUER, "jti": "a"}},
    ],
)
@cases("event", [SESSION_REVOKED, DISABLED])
async def test_who_is_named_in_no_way_that_is_known_here(subject: Any, event: str) -> None:
    seen: list[Event] = []
    site = Site(observers=[seen.append])
    answer = await push(site.endpoint, event_token(subject, event))
    assert answer.json == {"err": "invalid_request", "description": NOT_VALID}
    assert answer.status == 400
    assert answer.header("content-type") == "application/json"
    (refused,) = seen
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.INVALID


@cases(
    ("subject", "detail"),
    [
        ({**ALICE, "iss": "https://b.example"}, "it speaks of a user of 'https://b.example'"),
        (
            {"subject_type": "iss-sub", "iss": "https://b.example", "sub": "alice"},
            "it speaks of a user of 'https://b.example'",
        ),
        (
            {"format": "other", "iss": "https://b.example", "sub": "alice"},
            "it speaks of a user of 'https://b.example'",
        ),
        (
            {"format": "other", "iss": [ISSUER], "sub": "alice"},
            "it speaks of a user of 'https://id.example'",
        ),
        ({"format": "iss_sub", "iss": ISSUER}, "its sub is not a string, or empty"),
        ("alice", "its subject is not an object"),
        ({"sub": "alice"}, "its subject has no format"),
        ({"format": "complex"}, "its subject has no user"),
        ({"format": "email", "email": "a@b"}, "it has no sub; identity_of= can say who is meant"),
    ],
)
async def test_the_log_is_told_why(subject: Any, detail: str) -> None:
    seen: list[Event] = []
    site = Site(observers=[seen.append])
    assert (await push(site.endpoint, event_token(subject, DISABLED))).status == 400
    (event,) = seen
    assert isinstance(event, Refused)
    assert event.detail == detail
    assert not await site.ended("alice")


@cases("payload", [None, True, "x", []])
async def test_an_event_that_is_no_object(payload: Any) -> None:
    answer = await push(Site().endpoint, event_token(ALICE, events={SESSION_REVOKED: payload}))
    assert answer.json == {"err": "invalid_request", "description": NOT_VALID}


@cases(
    ("token", "err"),
    [
        ("rubbish", "invalid_request"),
        ("", "invalid_request"),
        (event_token(ALICE, SESSION_REVOKED, 64 * "k"), "invalid_key"),
        (event_token(ALICE, iss="https://other.example"), "invalid_issuer"),
        (event_token(ALICE, iss=None), "invalid_issuer"),
        (event_token(ALICE, aud="mail"), "invalid_audience"),
        (event_token(ALICE, jti=None), "invalid_request"),
        (event_token(ALICE, iat=None), "invalid_request"),
        (event_token(ALICE, events={}), "invalid_request"),
        (logout_token(), "invalid_request"),
        (mint(iss=ISSUER, aud="chat", iat=NOW, jti="a"), "invalid_request"),
    ],
)
async def test_errors_have_the_names_of_the_protocol(token: str, err: str) -> None:
    site = Site()
    answer = await push(site.endpoint, token)
    assert (answer.status, answer.json["err"]) == (400, err)
    assert answer.json["description"] == DESCRIPTIONS.get(err, NOT_VALID)
    assert set(answer.json) == {"err", "description"}
    assert ISSUER not in str(answer.json)
    assert not await site.ended("alice")


async def test_it_may_end_with_a_line_break() -> None:
    assert (await push(Site().endpoint, f"{event_token(ALICE)}\r\n")).status == 202


async def test_a_body_over_64_kb() -> None:
    scope = request("POST", headers=[SECEVENT])
    answer = await call(Site().endpoint, scope, b"a" * 65_537)
    assert (answer.status, answer.json["err"]) == (413, "invalid_request")
