"""`check-token`: the authenticator's own verdict, and what each check found on the way there."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cases import cases
from handshakes import NOW, SECRET, App, Knows, authenticator, jwt_verifier, mint, nobody
from issuer import Issuer, issuing
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    JWKS,
    APIKeyVerifier,
    Authenticator,
    Credential,
    Denied,
    FailureThrottle,
    HTTPAuthMiddleware,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
    Tickets,
    TokenIntrospection,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.cli import main

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch

ISS = "https://id.example"


@pytest.fixture(scope="module")
def an_issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.add_key("1")
        issuer.keep()
        yield issuer


@pytest.fixture
def issuer(an_issuer: Issuer) -> Issuer:
    an_issuer.clear()
    return an_issuer


def installed(monkeypatch: Patch, **names: Any) -> None:
    """An app's module, `chat`, with these names in it."""
    module = ModuleType("chat")
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "chat", module)


def checked(
    monkeypatch: Patch,
    capsys: Capture,
    token: str,
    *options: str,
    place: str = "chat:auth",
    **names: Any,
) -> tuple[int, str]:
    """The exit code and what is printed, which has no piece of the token."""
    if names:
        installed(monkeypatch, **names)
    monkeypatch.setenv("TOKEN", token)
    capsys.readouterr()
    code = main(["check-token", place, "--token-env", "TOKEN", *options])
    out, err = capsys.readouterr()
    assert pieces(token, out + err) == []
    assert err == ""
    return code, out


def pieces(token: str, text: str) -> list[str]:
    """What stands in a text of a token: pieces of eight characters."""
    every = (part[start : start + 8] for part in token.split(".") for start in range(len(part) - 7))
    return [piece for piece in every if piece in text]


def last(out: str) -> str:
    """The line with the verdict."""
    (line,) = [line for line in out.splitlines() if line.startswith(("ADMITTED", "REFUSED"))]
    return line


# The verdict


def test_an_admitted_token(issuer: Issuer, monkeypatch: Patch, capsys: Capture) -> None:
    """All that is printed."""
    issuer.add_key("2")
    keys = JWKS.from_oidc(issuer.url)
    verifier = jwt_verifier(
        keys,
        algorithms=["ES256"],
        issuer=issuer.url,
        audience="chat",
        claims={"token_use": "access"},
        scopes_claim=["scope", ("realm", "roles")],
    )
    claims = {"iss": issuer.url, "aud": ["chat", "web"], "token_use": "access", "iat": NOW - 10}
    token = issuer.token("1", **claims, scope="read write", realm={"roles": ["admin"]})
    code, out = checked(monkeypatch, capsys, token, auth=authenticator(verifier))
    assert (code, out) == (
        0,
        f"""\
credential {Credential(token).fingerprint}: a JWT, whose header says alg 'ES256', kid '1', typ 'JWT'
<JWTVerifier ES256>
  ok  iss         its iss is '{issuer.url}'
  ok  header      its alg is one of ES256
  ok  keys        {keys!r} has <2 keys: '1', '2'>
  ok  signature   good, by the key '1'
  ok  aud         its aud is 'chat', 'web'
  ok  claims      it has exp; its token_use is 'access'
  ok  iat, nbf    its iat was 10 s ago
  ok  identity    its sub is 'alice'
  ok  scopes      from scope, ('realm', 'roles'): 'read', 'write', 'admin'
  ok  exp         good for 330 s, with 30 s of leeway
ADMITTED: 'alice' of {issuer.url}, by jwt
  scopes   read write admin
  ends     2027-01-15 08:05:30 UTC, in 330 s
""",
    )


def test_a_token_that_says_little(monkeypatch: Patch, capsys: Capture) -> None:
    auth = authenticator(jwt_verifier(required_claims=[]))
    _, out = checked(monkeypatch, capsys, mint(exp=None), auth=auth)
    for line in (
        "keys        <the option key> has <1 key>",
        "signature   good, by a key without a name",
        "aud         its aud is None",
        "claims      none is asked for",
        "iat, nbf    it has neither",
        "scopes      from scope: none",
        "exp         it has none",
    ):
        assert f"  ok  {line}\n" in out


def test_a_refused_token_and_what_its_client_gets(monkeypatch: Patch, capsys: Capture) -> None:
    code, out = checked(monkeypatch, capsys, mint(exp=int(NOW) - 31), auth=authenticator())
    assert code == 1
    assert out.endswith(
        "REFUSED: token_expired: since 1 s\n"
        "\n"
        "HTTP status 401, or close code\n"
        "4001: private use\n"
        "token_expired: a reason of asgi-wsauth; it takes precedence over the code\n"
        "The client should: refresh\n"
    )


async def drops(principal: Principal, conn: HTTPConnection) -> None:
    """A `load_user` that knows nobody."""


async def breaks(principal: Principal, conn: HTTPConnection) -> None:
    raise KeyError(f"no row for {principal.identity}")


async def quotes(credential: Credential, conn: HTTPConnection) -> Principal:
    """A verifier that tells everybody."""
    print("it came with", credential.value)
    sys.stderr.writelines(["or rather ", credential.value[:60], "\n"])
    assert sys.stderr.encoding  # it is a stream as any other
    sys.stdout.flush()
    raise ValueError(f"what is {credential.value}?")


async def warns(credential: Credential, conn: HTTPConnection) -> Principal:
    raise Denied(Reason.THROTTLED, f"not {credential.value[5:90]} again", retry_after=7)


REFUSALS: list[tuple[Reason, Callable[[], Authenticator], str, str]] = [
    # as the decision goes
    (Reason.MALFORMED, authenticator, "a b", "it has characters that no credential has"),
    (Reason.MALFORMED, authenticator, "a" * 9000, "too long: 9000 characters"),
    (Reason.INVALID, authenticator, "x" * 20, "no verifier recognised the credential"),
    (Reason.INVALID, authenticator, mint("y" * 32), "no key verifies its signature"),
    (Reason.INVALID, authenticator, mint(aud="web"), "its aud is 'web', but no audience= is set"),
    (Reason.INVALID, authenticator, mint(sub=None), "sub"),
    (Reason.INVALID, authenticator, mint(exp=None), "exp"),
    (Reason.INVALID, authenticator, mint(nbf=NOW + 60), "it is not valid yet"),
    (Reason.INVALID, authenticator, mint(scope=7), "its scope is neither a string nor a list"),
    (Reason.INVALID, authenticator, mint(events={}), "it is a Security Event Token"),
    (
        Reason.INVALID,
        authenticator,
        mint(headers={"typ": "logout+jwt"}),
        "its typ is not that of a login",
    ),
    (
        Reason.INVALID,
        lambda: authenticator(jwt_verifier(algorithms=["HS512"], key=SECRET * 2)),
        mint(),
        "its alg is not among the algorithms",
    ),
    (
        Reason.INVALID,
        lambda: authenticator(jwt_verifier(issuer=ISS), jwt_verifier(issuer=f"{ISS}/")),
        mint(iss="https://other.example"),
        "its iss is 'https://other.example', expected 'https://id.example'; its iss",
    ),
    (Reason.EXPIRED, authenticator, mint(exp=int(NOW) - 90), "since 60 s"),
    (Reason.REVOKED, lambda: authenticator(load_user=drops), mint(), "load_user returned None"),
    (Reason.ERROR, lambda: authenticator(load_user=breaks), mint(), "the decision: KeyError"),
    (Reason.ERROR, lambda: authenticator(quotes), mint(), "the decision: ValueError"),
    (
        Reason.THROTTLED,
        lambda: authenticator(warns),
        mint(),
        "not [redacted].[redacted].[redacted] again",
    ),
    (
        Reason.INVALID,
        lambda: authenticator(Tickets(MemoryStore())),
        "wst_" + "a1b2c3d4" * 5 + "a1b",
        "the ticket is unknown in <MemoryStore",
    ),
]


@cases("reason, make, token, why", REFUSALS)
def test_every_refusal_says_why(
    reason: Reason,
    make: Callable[[], Authenticator],
    token: str,
    why: str,
    monkeypatch: Patch,
    capsys: Capture,
) -> None:
    installed(monkeypatch, auth=make())
    monkeypatch.setenv("TOKEN", token)
    assert main(["check-token", "chat:auth", "--token-env", "TOKEN"]) == 1
    out, err = capsys.readouterr()
    assert pieces(token, out + err) == []
    assert last(out).startswith(f"REFUSED: {reason.phrase}: ") and why in last(out)
    assert f"\nHTTP status {reason.http_status}, or close code\n{reason.close_code}: " in out
    assert out.endswith(f"The client should: {reason.advice}\n")


def test_a_token_is_refused_by_what_broke_and_that_is_named(
    monkeypatch: Patch, capsys: Capture
) -> None:
    _, out = checked(monkeypatch, capsys, mint(), auth=authenticator(load_user=breaks))
    assert "  KeyError in breaks at cli/test_check_token.py:" in out
    assert ": 'no row for alice'\n" in out


def test_when_it_may_work_again(monkeypatch: Patch, capsys: Capture) -> None:
    _, out = checked(monkeypatch, capsys, mint(), auth=authenticator(warns))
    assert "  it may work in 7 s\n" in out


def test_it_may_work_again_at_no_time_that_is_known(monkeypatch: Patch, capsys: Capture) -> None:
    auth = authenticator(Knows(key=Denied(Reason.UNAVAILABLE, retry_after=inf)))
    assert "it may work" not in checked(monkeypatch, capsys, "key", auth=auth)[1]
    _, out = checked(monkeypatch, capsys, "key", "--json", auth=auth)
    assert json.loads(out, parse_constant=pytest.fail)["retry_after"] is None


# Which verifier takes it


def test_each_verifier_that_was_asked_is_named_and_no_other(
    monkeypatch: Patch, capsys: Capture
) -> None:
    auth = authenticator(
        jwt_verifier(issuer=ISS), nobody, APIKeyVerifier({"billing": SECRET}), jwt_verifier()
    )
    code, out = checked(monkeypatch, capsys, SECRET, auth=auth)
    assert code == 0
    asked = [line for line in out.splitlines()[1:] if not line.startswith("ADMITTED")]
    assert asked[:5] == [
        "<JWTVerifier HS256>",
        "      not this verifier's",
        repr(nobody),
        "      not this verifier's",
        "<APIKeyVerifier ['billing']>",
    ]
    assert out.count("JWTVerifier") == 1
    assert last(out) == "ADMITTED: 'billing', by api_key"
    assert "  ends     never\n" in out


def test_a_verifier_that_passes_a_token_on_says_why(monkeypatch: Patch, capsys: Capture) -> None:
    auth = authenticator(jwt_verifier(issuer=ISS), jwt_verifier(issuer="https://b"))
    _, out = checked(monkeypatch, capsys, mint(iss="https://b"), auth=auth)
    assert f"      its iss is 'https://b', expected '{ISS}'\n      not this" in out


def test_what_the_authenticator_does_after_its_verifiers(
    monkeypatch: Patch, capsys: Capture
) -> None:
    async def load_user(principal: Principal, conn: HTTPConnection) -> Path:
        return Path("alice")

    options: Any = {"revocations": Revocations(MemoryStore()), "load_user": load_user}
    _, out = checked(monkeypatch, capsys, mint(), auth=authenticator(**options))
    assert "\nok  revocations it was not revoked\nok  load_user   a " in out


def test_a_ticket_is_used_up(monkeypatch: Patch, capsys: Capture) -> None:
    tickets = Tickets(MemoryStore(), clock=lambda: NOW)
    ticket = asyncio.run(tickets.mint(Principal("alice", method="jwt")))
    installed(monkeypatch, auth=authenticator(tickets))
    code, out = checked(monkeypatch, capsys, ticket)
    assert (code, last(out)) == (0, "ADMITTED: 'alice', by ticket")
    code, out = checked(monkeypatch, capsys, ticket)
    assert code == 1
    assert last(out).startswith("REFUSED: token_expired: the ticket was already used")


def test_a_throttle_neither_counts_it_nor_says_so(
    monkeypatch: Patch, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    throttle = FailureThrottle("1/minute")
    for _ in range(3):
        code, out = checked(monkeypatch, capsys, "x", auth=authenticator(throttle=throttle))
        assert (code, "no verifier recognised" in out) == (1, True)
    assert caplog.records == []


def test_while_login_is_off_nobody_looks_at_the_token(monkeypatch: Patch, capsys: Capture) -> None:
    knows = Knows()
    code, out = checked(monkeypatch, capsys, "x", auth=authenticator(knows, required=False))
    assert (code, knows.asked) == (0, [])
    assert "login is off (required): everybody is admitted, and no verifier was asked\n" in out
    assert last(out) == "ADMITTED: 'local', by none"


@cases(
    "token, kind",
    [
        ("wst_1", "a ticket"),
        ("wsi_1", "an internal credential"),
        ("wsk_1", "an API key"),
        ("a.b.c", "5 characters that are no JWT"),
        ("e30.e30.", "a JWT, whose header says nothing"),
        (
            mint(headers={"kid": "k\n1", "typ": None, "jku": "https://mallory"}),
            "a JWT, whose header says alg 'HS256', kid 'k\\n1'",
        ),
    ],
)
def test_what_it_looks_like(token: str, kind: str, monkeypatch: Patch, capsys: Capture) -> None:
    _, out = checked(monkeypatch, capsys, token, auth=authenticator(nobody))
    assert out.splitlines()[0].partition(": ")[2] == kind


@cases(
    "expires_at, told",
    [
        (None, "never"),
        (NOW + 60, "2027-01-15 08:01:00 UTC, in 60 s"),
        (1e18, "never"),
        (inf, "never"),
    ],
)
def test_when_it_ends(
    expires_at: float | None, told: str, monkeypatch: Patch, capsys: Capture
) -> None:
    knows = Knows(key=Principal("alice", expires_at=expires_at))
    _, out = checked(monkeypatch, capsys, "key", auth=authenticator(knows))
    assert out.endswith(f"  ends     {told}\n")
    _, out = checked(monkeypatch, capsys, "key", "--json", auth=authenticator(knows))
    assert json.loads(out)["principal"]["expires_at"] == (None if expires_at == inf else expires_at)


# With the issuer's live keys


def test_the_keys_are_the_issuers_own_of_now(
    issuer: Issuer, monkeypatch: Patch, capsys: Capture
) -> None:
    def auth() -> Authenticator:
        keys = JWKS(f"{issuer.url}/jwks")
        return authenticator(jwt_verifier(keys, algorithms=["ES256"]))

    old = issuer.token("1")
    assert checked(monkeypatch, capsys, old, auth=auth())[0] == 0
    issuer.keys.clear()
    issuer.add_key("2")
    code, out = checked(monkeypatch, capsys, old, auth=auth())
    assert (code, last(out)) == (1, "REFUSED: token_invalid: no key has its kid")
    assert "has <1 key: '2'>\n" in out
    issuer.behaviour["/jwks"] = "fail"
    code, out = checked(monkeypatch, capsys, old, auth=auth())
    assert (code, last(out)) == (
        1,
        f"REFUSED: keys_unavailable: <JWKS {issuer.url}/jwks>: HTTP 500",
    )


def test_a_key_that_came_meanwhile_is_looked_for(
    issuer: Issuer, monkeypatch: Patch, capsys: Capture
) -> None:
    verifier = jwt_verifier(JWKS(f"{issuer.url}/jwks", cooldown=0), algorithms=["ES256"])
    installed(monkeypatch, auth=authenticator(verifier))
    assert checked(monkeypatch, capsys, issuer.token("1"))[0] == 0
    issuer.add_key("2")
    code, out = checked(monkeypatch, capsys, issuer.token("2"))
    assert code == 0
    assert "has <1 key: '1'>\n  ok  keys        asked again, it has <2 keys: '1', '2'>\n" in out


def test_the_names_of_many_keys_are_cut(
    issuer: Issuer, monkeypatch: Patch, capsys: Capture
) -> None:
    for number in range(30):
        issuer.add_key(f"{number:02}", issuer.keys["1"])
    verifier = jwt_verifier(JWKS(f"{issuer.url}/jwks"), algorithms=["ES256"])
    _, out = checked(monkeypatch, capsys, issuer.token("1"), auth=authenticator(verifier))
    assert "'17', '18', ...>\n" in out


def test_an_issuer_is_asked_of_an_opaque_token(
    issuer: Issuer, monkeypatch: Patch, capsys: Capture
) -> None:
    url = f"{issuer.url}/introspect"
    asks = TokenIntrospection(url, client_id="chat", client_secret=SECRET, clock=lambda: NOW)
    issuer.tokens["an-opaque-token"] = {"active": True, "sub": "alice"}
    for _ in range(2):
        code, out = checked(monkeypatch, capsys, "an-opaque-token", auth=authenticator(asks))
        assert "  ok  aud " in out and "  ok  identity    its sub is 'alice'\n" in out
    code, out = checked(monkeypatch, capsys, "an-opaque-token", auth=authenticator(asks))
    assert (code, last(out)) == (0, "ADMITTED: 'alice', by introspection")
    code, out = checked(monkeypatch, capsys, "another-opaque-one", auth=authenticator(asks))
    assert (code, last(out)) == (1, "REFUSED: token_invalid: it is not active")


# Where the authenticator is

AUTH = authenticator()
TWO = [
    Middleware(WebSocketAuthMiddleware, authenticator=AUTH),
    Middleware(HTTPAuthMiddleware, AUTH),
]


@cases(
    "thing",
    [
        AUTH,
        WebSocketAuthMiddleware(App(), AUTH),
        HTTPAuthMiddleware(WebSocketAuthMiddleware(App(), AUTH), AUTH),
        Starlette(middleware=TWO),
        WebSocketAuthMiddleware(Starlette(middleware=TWO), AUTH),
    ],
)
def test_it_may_be_held_by_an_app(thing: Any, monkeypatch: Patch, capsys: Capture) -> None:
    code, _ = checked(monkeypatch, capsys, mint(), place="chat:thing", thing=thing)
    assert code == 0


def test_it_may_be_an_attribute_of_what_is_there(monkeypatch: Patch, capsys: Capture) -> None:
    code, _ = checked(monkeypatch, capsys, mint(), place="chat:app.app", app=Holder(AUTH))
    assert code == 0


class Holder:
    def __init__(self, auth: Authenticator) -> None:
        self.app = auth


SCOPED = Middleware(HTTPAuthMiddleware, authenticator=AUTH, required_scopes=["b", "a"])


@cases(
    "app",
    [
        Starlette(middleware=[SCOPED]),
        WebSocketAuthMiddleware(App(), AUTH, required_scopes=["b", "a"]),
    ],
)
def test_what_an_app_requires_is_required(app: Any, monkeypatch: Patch, capsys: Capture) -> None:
    code, out = checked(monkeypatch, capsys, mint(scope="a"), place="chat:app", app=app)
    assert (code, last(out)) == (1, "REFUSED: forbidden: requires the scopes a b")
    code, out = checked(monkeypatch, capsys, mint(scope="a b c"), place="chat:app", app=app)
    assert code == 0
    assert "\nok  required scopes" in out and "AuthMiddleware requires a b\n" in out


@cases(
    "place, why",
    [
        ("chat", "must be where it is in your code, as module:name"),
        ("chat:", "must be where it is in your code"),
        (":auth", "must be where it is in your code"),
        ("chat:a-b", "must be where it is in your code"),
        (mint(), "must be where it is in your code"),
        ("not_there:auth", "there is no such module; run this where you start your server"),
        ("chat.deeper:auth", "there is no such module"),
        ("chat:auht", "nothing there has that name; did you mean auth or other?\n"),
        ("chat:auth.more", "nothing there has that name\n"),
        ("chat:text", "must be an Authenticator, or an app that has one, got a str"),
        ("chat:both", "there are several in it (HTTPAuthMiddleware, WebSocketAuthMiddleware)"),
    ],
)
def test_where_there_is_no_authenticator(
    place: str, why: str, monkeypatch: Patch, capsys: Capture
) -> None:
    other = authenticator()
    both = HTTPAuthMiddleware(WebSocketAuthMiddleware(App(), AUTH), other)
    installed(monkeypatch, auth=AUTH, other=other, text="", both=both)
    err = told_off(capsys, monkeypatch, place, "--token-env", "TOKEN")
    assert err.startswith("asgi-wsauth: AUTHENTICATOR") and why in err
    assert pieces(place, err.replace("[redacted]", "")) == [] or len(place) < 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told_off(capsys: Capture, monkeypatch: Patch, *arguments: str) -> str:
    """What a wrong command is told."""
    monkeypatch.setenv("TOKEN", mint())
    monkeypatch.setattr(sys, "stdin", Terminal())
    code: object
    try:
        code = main(["check-token", *arguments])
    except SystemExit as exc:  # argparse's
        code = exc.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert pieces(mint(), err) == []
    return err


MODULES = {
    "import not_installed": "importing it raised ModuleNotFoundError in <module> at ",
    "import os; raise RuntimeError(os.environ['TOKEN'])": ": [redacted]",
    "import sys; sys.exit('usage: chat')": "importing it raised SystemExit in <module> at ",
}


@cases("code, why", MODULES.items())
def test_a_module_that_cannot_be_imported(
    code: str, why: str, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    (tmp_path / "a_broken_chat.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert why in told_off(capsys, monkeypatch, "a_broken_chat:auth", "--token-env", "TOKEN")


def test_what_a_module_raises_is_told_without_the_token(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    code = "import os; raise ValueError('not ' + os.environ['KEY'])"
    (tmp_path / "a_loud_chat.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("KEY", SECRET)
    err = told_off(capsys, monkeypatch, "a_loud_chat:auth", "--token-env", "KEY")
    assert err.endswith(": not [redacted]\n") and pieces(SECRET, err) == []


def test_the_current_directory_is_imported_from(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    (tmp_path / "a_small_chat.py").write_text(
        "from asgi_wsauth import Authenticator, APIKeyVerifier\n"
        f"auth = Authenticator([APIKeyVerifier({{'billing': '{SECRET}'}})])\n"
        "print('starting')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("TOKEN", SECRET)
    for _ in range(2):
        assert main(["check-token", "a_small_chat:auth", "--token-env", "TOKEN"]) == 0
        assert sys.path.count(str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert (out.count("ADMITTED"), err) == (2, "starting\n")  # what an app prints is no result
    del sys.modules["a_small_chat"]


# Where the token is


def test_it_comes_from_a_file_or_from_stdin(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    installed(monkeypatch, auth=AUTH)
    (tmp_path / "token").write_text(f"{mint()}\n")
    assert main(["check-token", "chat:auth", "--token-file", str(tmp_path / "token")]) == 0
    for text in (mint(), f"\n {mint()}\r\n", f'"{mint()}"\n'):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert main(["check-token", "chat:auth", "--token-file", "-"]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(mint()))
    assert main(["check-token", "chat:auth"]) == 0  # it is piped
    assert pieces(mint(), "".join(capsys.readouterr())) == []


def test_bearer_is_no_part_of_it(monkeypatch: Patch, capsys: Capture) -> None:
    installed(monkeypatch, auth=AUTH)
    monkeypatch.setenv("TOKEN", f"Bearer {mint()}")
    assert main(["check-token", "chat:auth", "--token-env", "TOKEN"]) == 0
    assert capsys.readouterr().err == "asgi-wsauth: the Bearer before the token was left out\n"


ADVICE = "every user of this machine can read the arguments"


@cases(
    "arguments, why",
    [
        ([], "AUTHENTICATOR"),
        (["chat:auth"], "there is no token: use --token-env NAME, or --token-file FILE"),
        (["chat:auth", "--token-env", "BEARER"], "there is no token: "),
        (["chat:auth", "--token-env", "NOT_THERE"], "--token-env: not set, or empty"),
        (
            ["chat:auth", "--token-file", "-"],
            "stdin is empty: use --token-env NAME, or --token-file",
        ),
        (["chat:auth", "--token-file", os.devnull], "--token-file: empty"),
        (["chat:auth", "--token-file", "/not/there"], "--token-file: No such file or directory"),
        (["chat:auth", "--token-env", "A", "--token-file", "b"], "not allowed with"),
        (["chat:auth", mint()], ADVICE),
        (["chat:auth", "--token", mint()], ADVICE),
        (["chat:auth", f"--token={mint()}"], ADVICE),
        (["chat:auth", "--tok", mint()], ADVICE),
        (["chat:auth", f"--tok={mint()}"], ADVICE),
        (["chat:auth", "--token-env", "TOKEN", mint()], ADVICE),
        (["chat:auth", "--token-env", mint()], "--token-env: not set, or empty"),
        (["chat:auth", "--token-file", mint()], "--token-file: No such file"),
        (["chat:auth", "--token-file", "a\0b"], "--token-file: not a text file"),
        (["chat:auth", "--token-env", "TOKEN", f"--json={mint()}"], "--json"),
        ([mint(), "--token-env", "TOKEN"], "AUTHENTICATOR must be where it is"),
    ],
)
def test_a_wrong_command_never_repeats_a_token(
    arguments: list[str], why: str, monkeypatch: Patch, capsys: Capture
) -> None:
    installed(monkeypatch, auth=AUTH)
    monkeypatch.setenv("BEARER", " 'Bearer '")
    assert why in told_off(capsys, monkeypatch, *arguments)


@cases("arguments", [[], ["--token-file", "-"], ["--token-env", "NOT_THERE"]])
def test_a_missing_module_is_told_before_a_missing_token(
    arguments: list[str], monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert main(["check-token", "nosuch:auth", *arguments]) == 2
    assert capsys.readouterr().err.startswith("asgi-wsauth: AUTHENTICATOR: there is no such module")


def test_a_token_in_the_wrong_place_is_kept_out_of_what_a_module_prints(
    tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    (tmp_path / "a_curious_chat.py").write_text("import sys; print(sys.argv)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = ["a_curious_chat:auth", "--token-env", mint()]
    monkeypatch.setattr(sys, "argv", ["asgi-wsauth", "check-token", *arguments])
    assert "'--token-env', '[redacted]'" in told_off(capsys, monkeypatch, *arguments)
    del sys.modules["a_curious_chat"]


# What gets out


def test_nothing_of_the_token_gets_out_of_what_the_app_prints(
    monkeypatch: Patch, capsys: Capture
) -> None:
    installed(monkeypatch, auth=authenticator(quotes))
    monkeypatch.setenv("TOKEN", mint())
    assert main(["check-token", "chat:auth", "--token-env", "TOKEN"]) == 1
    out, err = capsys.readouterr()
    assert err == "it came with [redacted]\nor rather [redacted].[redacted]\n"
    assert "ValueError in quotes at cli/test_check_token.py:" in out
    assert ": what is [redacted]?\n" in out


@cases("token, told", [("e", "to be [redacted], or key"), ("key", "to be e, or [redacted]")])
def test_a_short_token_is_only_hidden_where_it_is_a_word(
    token: str, told: str, monkeypatch: Patch, capsys: Capture
) -> None:
    knows = Knows(**{token: Denied(Reason.INVALID, "to be e, or key")})
    code, out = checked(monkeypatch, capsys, token, auth=authenticator(knows))
    assert (code, last(out)) == (1, f"REFUSED: token_invalid: {told}")


@cases("token", ["true", 'a"b', 'aaaaaaaa"bbbbbbbb\\cccccccc'])
def test_json_is_json_and_has_no_token(token: str, monkeypatch: Patch, capsys: Capture) -> None:
    knows = Knows(**{token: Principal(f"it is {token}", scopes=[token], method="known")})
    code, out = checked(monkeypatch, capsys, token, "--json", auth=authenticator(knows))
    found = json.loads(out)
    assert (code, found["admitted"]) == (0, True)
    assert found["principal"]["identity"] == "it is [redacted]"
    assert found["principal"]["scopes"] == ["[redacted]"]
    assert found["fingerprint"] == Credential(token).fingerprint


def test_as_json(monkeypatch: Patch, capsys: Capture) -> None:
    knows = Knows(key=Principal("alice", scopes=["chat"], method="known"))
    code, out = checked(monkeypatch, capsys, "key", "--json", auth=authenticator(knows))
    assert (code, json.loads(out)) == (
        0,
        {
            "fingerprint": Credential("key").fingerprint,
            "kind": "3 characters that are no JWT",
            "checks": [{"check": "verifier", "found": repr(knows)}],
            "admitted": True,
            "login_is_on": True,
            "principal": {
                "identity": "alice",
                "issuer": None,
                "method": "known",
                "login_method": None,
                "scopes": ["chat"],
                "issued_at": None,
                "expires_at": None,
                "token_id": None,
                "session_id": None,
            },
        },
    )
    code, out = checked(monkeypatch, capsys, "other", "--json", auth=authenticator(knows))
    assert code == 1
    assert {name: json.loads(out)[name] for name in ("admitted", "reason", "close_code")} == {
        "admitted": False,
        "reason": "token_invalid",
        "close_code": 1008,
    }
    assert json.loads(out)["checks"][-1] == {"check": "not mine", "found": ""}


@pytest.mark.live
def test_it_runs_as_a_process_where_the_app_is(issuer: Issuer, tmp_path: Path) -> None:
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat/app.py").write_text(
        "from asgi_wsauth import *\n"
        f"keys = JWKS('{issuer.url}/jwks')\n"
        "auth = Authenticator([JWTVerifier(keys, algorithms=['ES256'])])\n"
    )
    code = "import sys; del sys.path[0]; from asgi_wsauth.cli import main; sys.exit(main())"
    token = issuer.token("1", exp=1)
    ended = subprocess.run(
        [sys.executable, "-c", code, "check-token", "chat.app:auth", "--token-file", "-"],
        input=token,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stderr) == (1, "")
    assert f"<JWKS {issuer.url}/jwks> has <1 key: '1'>" in ended.stdout
    assert pieces(token, ended.stdout) == []


async def by_tenant(credential: Credential, conn: HTTPConnection) -> Principal:
    if credential.note is not None:
        credential.note("tenant", "acme, which pays")
    return Principal("alice")


def test_a_verifier_of_a_users_own_can_say_what_it_found(
    monkeypatch: Patch, capsys: Capture
) -> None:
    _, out = checked(monkeypatch, capsys, "x", auth=authenticator(by_tenant))
    assert "\n  ok  tenant      acme, which pays\nADMITTED" in out
