"""examples/firebase.py, with an issuer on this machine in Google's place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import anyio
import pytest
from handshakes import A_JWT, mint, now
from issuer import Issuer, issuing
from keys import RSA_KEY, RSA_OTHER
from run_example import EXAMPLES, Running, running

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "firebase.py"

PROJECT = "chat-1f3a2"
CERTIFICATES = "/certificates"
LOOKUP = "/v1/accounts:lookup?key=AIza-web-key"
KEY, OTHER_KEY = RSA_KEY, RSA_OTHER

ADMITTED = ("Hello, alice", "alice: hi")
INVALID = (1008, "token_invalid")
EXPIRED = (4001, "token_expired")
KEYS_UNAVAILABLE = (4001, "keys_unavailable")
REVOKED = (4004, "token_revoked")
UNAVAILABLE = (1013, "verifier_unavailable")

# The example, with keys that grow older by as many seconds as each line of its input says.
AGEING = """
import os, sys, threading, time
from functools import partial
import asgi_wsauth, uvicorn

age = 0.0
asgi_wsauth.JWKS = partial(asgi_wsauth.JWKS, clock=lambda: time.monotonic() + age)
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import firebase

def grow_older():
    global age
    for line in sys.stdin:
        age += float(line)
        print("older", flush=True)

threading.Thread(target=grow_older, daemon=True).start()
uvicorn.run(firebase.app, host="127.0.0.1", port=int(os.environ["PORT"]))
"""
TTL, STALE_FOR, COOLDOWN = 600, 3600, 30  # what JWKS has by default


class Example:
    """The running example, as its users and Google talk to it."""

    def __init__(self, process: Running, issuer: Issuer) -> None:
        self.process = process
        self.issuer = issuer
        issuer.pages["/elsewhere"] = account()  # where redirects lead
        self.answer(account())

    def answer(self, page: Any, how: str = "serve") -> None:
        """What Google answers about a token, until it is told otherwise."""
        self.issuer.pages[LOOKUP] = page
        self.issuer.behaviour[LOOKUP] = how
        self.issuer.requests.clear()

    def open(self, token: str | None) -> tuple[Any, ...]:
        """What a page's socket gets: the greeting and the answer to a message, or the close."""
        page = [("Origin", "https://chat.example")]
        seen = self.process.talk("/chat", say=["hi"], headers=page, token=token)
        return seen.close or tuple(seen.messages)

    def lookups(self) -> list[Any]:
        """The bodies of what Google was asked about tokens."""
        return [json.loads(r.body) for r in self.issuer.requests if r.path == LOOKUP]

    def grow_older(self, seconds: float) -> None:
        print(seconds, file=self.process.process.stdin, flush=True)
        self.process.wait_for("older")


@contextmanager
def firebase(*arguments: str) -> Iterator[Example]:
    with issuing() as issuer:
        issuer.add_key("1", KEY)
        with running(
            *arguments,
            FIREBASE_PROJECT=PROJECT,
            FIREBASE_API_KEY="AIza-web-key",
            CERTIFICATES_URL=f"{issuer.url}{CERTIFICATES}",
            ACCOUNTS_URL=f"{issuer.url}{LOOKUP.partition('?')[0]}",
        ) as process:
            yield Example(process, issuer)
    assert not re.search(A_JWT, process.written), process.written
    assert "internal_error" not in process.written, process.written


@pytest.fixture(scope="module")
def running_example() -> Iterator[Example]:
    with firebase(str(EXAMPLE)) as example:
        yield example


@pytest.fixture
def example(running_example: Example) -> Example:
    running_example.answer(account())
    return running_example


@pytest.fixture(scope="module")
def ageing_example() -> Iterator[Example]:
    with firebase("-c", AGEING, str(EXAMPLE)) as example:
        yield example


@pytest.fixture
def ageing(ageing_example: Example) -> Example:
    """The example, which has no keys any more."""
    ageing_example.issuer.keys = {"1": KEY}
    ageing_example.issuer.behaviour.clear()
    ageing_example.grow_older(TTL + STALE_FOR)
    ageing_example.answer(account())
    return ageing_example


def account(**more: Any) -> dict[str, Any]:
    """Google's answer about a user who never had anything revoked, with these members more."""
    user = {"localId": "alice", "email": "alice@example.com", "createdAt": "1600000000000", **more}
    return {"kind": "identitytoolkit#GetAccountInfoResponse", "users": [user]}


def error(message: Any) -> dict[str, Any]:
    return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}


def id_token(kid: str | None = "1", key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
    """What Firebase issues: good for an hour, with `claims` over its own."""
    claims = {
        "iss": f"https://securetoken.google.com/{PROJECT}",
        "aud": PROJECT,
        "auth_time": now() - 7200,
        "user_id": "alice",
        "sub": "alice",
        "iat": now() - 60,
        "exp": now() + 3540,
        "jti": uuid4().hex,  # the same refused token ten times within seconds is told by HTTP
        "firebase": {"identities": {}, "sign_in_provider": "password"},
        **claims,
    }
    return mint(key, algorithm=algorithm, headers={"kid": kid} if kid else {}, **claims)


def test_who_is_signed_in_gets_in(example: Example) -> None:
    token = id_token()
    assert example.open(token) == ADMITTED
    assert example.lookups() == [{"idToken": token}]


def test_no_token(example: Example) -> None:
    assert example.open(None) == (1008, "token_missing")
    assert example.lookups() == []


@pytest.mark.parametrize(
    ("refused", "make"),
    [
        (EXPIRED, lambda: id_token(exp=now() - 60)),
        (INVALID, lambda: id_token(aud="another-project")),
        (INVALID, lambda: id_token(iss="https://securetoken.google.com/another-project")),
        (INVALID, lambda: id_token(iss=f"https://session.firebase.google.com/{PROJECT}")),
        (INVALID, lambda: id_token(iss="https://securetoken.google.com/x", aud="x")),
        (INVALID, lambda: id_token(key=OTHER_KEY)),
        (INVALID, lambda: id_token(kid="3", key=OTHER_KEY)),
        (INVALID, lambda: id_token(kid="3")),
        (INVALID, lambda: id_token(algorithm="RS512")),
        (INVALID, lambda: id_token(algorithm="PS256")),
        (INVALID, lambda: id_token(key="k" * 32, algorithm="HS256")),
        (INVALID, lambda: id_token(key=None, algorithm="none")),
        (INVALID, lambda: id_token(sub="")),
        (INVALID, lambda: id_token(exp=None)),
        (INVALID, lambda: id_token(iat=now() + 3600)),
        (INVALID, lambda: id_token(auth_time=None)),
        (INVALID, lambda: id_token(auth_time=now() + 3600)),
        (INVALID, lambda: id_token(auth_time=str(now()))),
        (INVALID, lambda: id_token(auth_time=True)),
        (INVALID, lambda: id_token(auth_time=float("nan"))),
        (INVALID, lambda: id_token(auth_time=[now()])),
        (INVALID, lambda: "rubbish"),
    ],
)
def test_a_bad_token_is_refused_before_google_is_asked(
    example: Example, refused: tuple[int, str], make: Callable[[], str]
) -> None:
    assert example.open(make()) == refused
    assert example.lookups() == []


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (ADMITTED, {"validSince": "-1"}),  # seconds after the user signed in
        (ADMITTED, {"validSince": "0"}),
        (REVOKED, {"validSince": "1"}),
        (REVOKED, {"validSince": "7170"}),  # though the token was issued since
        (REVOKED, {"disabled": True}),
        (REVOKED, {"disabled": True, "validSince": "-1"}),
        (ADMITTED, {"disabled": False}),
        (ADMITTED, {"disabled": False, "validSince": "-1"}),
    ],
)
def test_a_user_who_is_disabled_or_was_signed_out_must_sign_in(
    example: Example, seen: tuple[Any, ...], told: dict[str, Any]
) -> None:
    signed_in = now() - 7200
    if "validSince" in told:
        told = {**told, "validSince": str(signed_in + int(told["validSince"]))}
    example.answer(account(**told))
    assert example.open(id_token(auth_time=signed_in)) == seen
    assert len(example.lookups()) == 1


@pytest.mark.parametrize(
    "page",
    [{"kind": "identitytoolkit#GetAccountInfoResponse"}, {**account(), "users": []}],
)
def test_a_user_who_is_gone_must_sign_in(example: Example, page: Any) -> None:
    example.answer(page)
    assert example.open(id_token()) == REVOKED


@pytest.mark.parametrize(
    "message",
    [
        "USER_DISABLED",
        "USER_DISABLED : The user account has been disabled by an administrator.",
        "USER_NOT_FOUND",
        "TOKEN_EXPIRED",
        "INVALID_ID_TOKEN",
    ],
)
def test_whom_google_refuses_must_sign_in(example: Example, message: str) -> None:
    example.answer(error(message), "refuse")
    assert example.open(id_token()) == REVOKED


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (EXPIRED, "TOKEN_EXPIRED"),
        (EXPIRED, "INVALID_ID_TOKEN"),
        (REVOKED, "USER_DISABLED"),
        (REVOKED, "USER_NOT_FOUND"),
    ],
)
def test_a_token_that_just_expired_by_googles_clock_needs_no_login(
    example: Example, seen: tuple[int, str], message: str
) -> None:
    example.answer(error(message), "refuse")
    assert example.open(id_token(exp=now() + 10)) == seen
    assert len(example.lookups()) == 1


@pytest.mark.parametrize("how", ["fail", "hang_up", "redirect", "rubbish", "no_http"])
def test_an_outage_at_google_sends_nobody_to_sign_in(example: Example, how: str) -> None:
    example.answer(account(), how)
    assert example.open(id_token()) == UNAVAILABLE
    assert len(example.lookups()) == 1
    example.answer(account())
    assert example.open(id_token()) == ADMITTED


@pytest.mark.parametrize(
    "page",
    [
        error("API key not valid. Please pass a valid API key."),
        error("TOO_MANY_ATTEMPTS_TRY_LATER : We have blocked all requests from this device."),
        error("OPERATION_NOT_ALLOWED"),
        error("user_disabled"),
        error(""),
        error(None),
        error(["USER_DISABLED"]),
        {"error": "USER_DISABLED"},
        {"error": None},
        {},
        [],
        None,
        account(),
    ],
)
def test_a_refusal_for_other_reasons_is_an_outage(example: Example, page: Any) -> None:
    example.answer(json.dumps(page).encode(), "refuse")
    assert example.open(id_token()) == UNAVAILABLE


def test_the_log_says_what_is_wrong_with_the_key(example: Example) -> None:
    example.answer(error("API key not valid. Please pass a valid API key."), "refuse")
    assert example.open(id_token()) == UNAVAILABLE
    line = example.process.wait_for("API key not valid").splitlines()[-1]
    assert "verifier_unavailable" in line


@pytest.mark.parametrize(
    "page",
    [
        *({}, [], "", 0, None, True, {"users": None}, {"users": {}}, {"users": []}),
        *({**account(), "users": odd} for odd in (None, {}, 0, "")),
        {"error": {"message": "USER_DISABLED"}},
        {"users": [None]},
        {"users": [[]]},
        {"users": [{}]},
        {"users": [{"localId": None}]},
        account(localId="bob"),
        account(localId="ALICE"),
        {"users": account()["users"] * 2},
        *(account(disabled=odd) for odd in (None, "false", "true", 0, 1, [], {})),
        *(account(validSince=odd) for odd in (None, "", "soon", "1.5", "NaN", "0x1", "9" * 5000)),
        *(account(validSince=odd) for odd in (0, 1, 1.5, True, [], {}, ["0"])),
    ],
)
def test_an_answer_that_says_neither_yes_nor_no_is_an_outage(example: Example, page: Any) -> None:
    example.answer(json.dumps(page).encode())
    assert example.open(id_token()) == UNAVAILABLE


@pytest.mark.parametrize("page", [b"", b"\xff", b"[" * 100_000, b'{"users": [{"localId": "alice"}'])
def test_an_answer_that_is_no_json_is_an_outage(example: Example, page: bytes) -> None:
    example.answer(page)
    assert example.open(id_token()) == UNAVAILABLE


def test_google_is_asked_each_time_and_its_certificates_are_fetched_once(ageing: Example) -> None:
    tokens = [id_token(email=f"{number}@example.com") for number in range(3)]
    assert [ageing.open(token) for token in tokens] == [ADMITTED] * 3
    assert ageing.lookups() == [{"idToken": token} for token in tokens]
    assert ageing.issuer.count(CERTIFICATES) == 1


@pytest.mark.parametrize("how", ["fail", "hang_up", "redirect", "rubbish"])
def test_without_certificates_nobody_gets_in_and_nobody_must_sign_in(
    ageing: Example, how: str
) -> None:
    ageing.issuer.behaviour[CERTIFICATES] = how
    assert [ageing.open(id_token()) for _ in range(2)] == [KEYS_UNAVAILABLE] * 2
    assert ageing.issuer.count(CERTIFICATES) == 1
    assert ageing.lookups() == []
    ageing.issuer.behaviour.clear()
    ageing.grow_older(COOLDOWN)
    assert ageing.open(id_token()) == ADMITTED
    assert ageing.issuer.count(CERTIFICATES) == 2


def test_google_says_nothing_at_all(example: Example, ageing: Example) -> None:
    example.answer(account(), "hang")
    ageing.issuer.behaviour[CERTIFICATES] = "hang"
    with ThreadPoolExecutor() as pool:  # each of them takes seconds
        seen = pool.map(lambda which: which.open(id_token()), [example, ageing])
        assert list(seen) == [UNAVAILABLE, KEYS_UNAVAILABLE]


def test_keys_rotate_and_nobody_notices(ageing: Example) -> None:
    old, new = id_token("1"), id_token("2", OTHER_KEY)
    assert ageing.open(old) == ADMITTED
    ageing.issuer.add_key("2", OTHER_KEY)
    ageing.grow_older(COOLDOWN)
    assert ageing.open(old) == ADMITTED
    assert ageing.issuer.count(CERTIFICATES) == 1
    assert ageing.open(new) == ADMITTED  # which is what makes it look for a newer set
    assert ageing.issuer.count(CERTIFICATES) == 2
    del ageing.issuer.keys["1"]
    ageing.grow_older(0.8 * TTL)
    assert ageing.open(new) == ADMITTED  # while that set is renewed in the background
    anyio.run(ageing.issuer.asked, CERTIFICATES, 3)
    ageing.grow_older(0.2 * TTL)
    assert ageing.open(new) == ADMITTED
    assert ageing.issuer.count(CERTIFICATES) == 3
    assert ageing.open(old) == INVALID


def test_the_last_certificates_serve_for_an_hour_of_outage(ageing: Example) -> None:
    assert ageing.open(id_token()) == ADMITTED
    ageing.issuer.behaviour[CERTIFICATES] = "fail"
    ageing.grow_older(TTL)
    assert ageing.open(id_token()) == ADMITTED
    ageing.grow_older(STALE_FOR)
    assert ageing.open(id_token()) == KEYS_UNAVAILABLE
    assert ageing.issuer.count(CERTIFICATES) == 3


def test_strangers_cannot_make_it_fetch(ageing: Example) -> None:
    assert ageing.open(id_token()) == ADMITTED
    tokens = [id_token(f"x{number}", OTHER_KEY) for number in range(5)]
    assert [ageing.open(token) for token in tokens] == [INVALID] * 5
    assert ageing.issuer.count(CERTIFICATES) == 1
    ageing.grow_older(COOLDOWN)
    assert [ageing.open(token) for token in tokens] == [INVALID] * 5
    assert ageing.issuer.count(CERTIFICATES) == 2
