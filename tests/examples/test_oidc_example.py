"""examples/oidc.py, with an issuer on this machine in the place of Auth0 and of Keycloak."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import forking
import pytest
from handshakes import A_JWT, mint, now
from issuer import Issuer, issuing, jwk, x5c
from keys import RSA_KEY, RSA_OTHER
from run_example import EXAMPLES, Running, running, without_settings

pytestmark = pytest.mark.live

EXAMPLE = EXAMPLES / "oidc.py"

AUDIENCE = "https://chat.example"
KEY, OTHER_KEY = RSA_KEY, RSA_OTHER

ADMITTED = ("Hello, alice", "alice: hi")
INVALID = (1008, "token_invalid")
FORBIDDEN = (1008, "forbidden")
KEYS_UNAVAILABLE = (4001, "keys_unavailable")

DISCOVERY = "/.well-known/openid-configuration"


class Provider:
    """An issuer on this machine, dressed up as another one."""

    def __init__(self, issuer: Issuer, end: str, keys: str) -> None:
        self.issuer = issuer
        self.name = f"{issuer.url}{end}"
        self.discovery = f"{end.removesuffix('/')}{DISCOVERY}"
        self.keys = f"{end.removesuffix('/')}{keys}"
        document = {"issuer": self.name, "jwks_uri": f"{issuer.url}{self.keys}"}
        issuer.pages = {self.discovery: document}

    def token(self, kid: str = "1", key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
        """A good access token, with `claims` over its own."""
        good = {"iss": self.name, "aud": AUDIENCE, "iat": now() - 60, "exp": now() + 3540}
        good["jti"] = uuid4().hex  # the same refused token ten times within seconds is told by HTTP
        return mint(key, algorithm=algorithm, headers={"kid": kid}, **{**good, **claims})

    def fetches(self) -> tuple[int, int]:
        """How often its discovery document and its keys were asked for."""
        return self.issuer.count(self.discovery), self.issuer.count(self.keys)


def auth0(issuer: Issuer) -> Provider:
    provider = Provider(issuer, "/", "/.well-known/jwks.json")
    key = x5c(KEY, "1") | jwk(KEY, "1", alg="RS256")
    issuer.pages[provider.keys] = {"keys": [key]}
    return provider


def keycloak(issuer: Issuer) -> Provider:
    provider = Provider(issuer, "/realms/main", "/protocol/openid-connect/certs")
    for_encryption = jwk(OTHER_KEY, "2", alg="RSA-OAEP") | {"use": "enc"}
    issuer.pages[provider.keys] = {"keys": [for_encryption, jwk(KEY, "1", alg="RS256")]}
    return provider


class Example:
    """The running example, and where its tokens come from."""

    def __init__(self, process: Running, provider: Provider) -> None:
        self.process = process
        self.provider = provider

    def open(self, token: str | None, path: str = "/chat") -> tuple[Any, ...]:
        """What a socket gets: the greeting and the answer to a message, or the close."""
        seen = self.process.talk(path, say=["hi"], token=token)
        return seen.close or tuple(seen.messages)


@contextmanager
def oidc(provider: Provider, name: str = "") -> Iterator[Example]:
    settings = {"ISSUER": name or provider.name, "AUDIENCE": AUDIENCE}
    with running(str(EXAMPLE), **settings) as process:
        yield Example(process, provider)
    assert not re.search(A_JWT, process.written), process.written
    assert "internal_error" not in process.written, process.written


@pytest.fixture(scope="module", params=[auth0, keycloak])
def example(request: pytest.FixtureRequest) -> Iterator[Example]:
    with issuing() as issuer, oidc(request.param(issuer)) as example:
        yield example


def test_a_storm_of_handshakes_fetches_the_keys_once(example: Example) -> None:
    provider = example.provider
    seen = example.process.talk_at_once(20, "/chat", token=provider.token())
    assert [one.messages for one in seen] == [["Hello, alice"]] * 20
    assert provider.fetches() == (1, 1)


def test_the_same_token_again(example: Example) -> None:
    token = example.provider.token(realm_access={"roles": ["speaker"]})
    opened = [example.open(token, path) for path in ("/chat", "/announcements") * 2]
    assert opened == [ADMITTED] * 4


@pytest.mark.parametrize(
    ("seen", "claims"),
    [
        (ADMITTED, {"aud": [AUDIENCE, "https://tenant.eu.auth0.com/userinfo"]}),
        (ADMITTED, {"aud": ["account", AUDIENCE]}),
        ((4001, "token_expired"), {"exp": now() - 60}),
        (INVALID, {"aud": "a-client"}),  # an ID token
        (INVALID, {"aud": "account"}),  # Keycloak, without the mapper
        (INVALID, {"aud": None}),
        (INVALID, {"aud": [f"{AUDIENCE}/"]}),
        (INVALID, {"iss": None}),
        (INVALID, {"iss": "https://tenant.eu.auth0.com/"}),
        (INVALID, {"exp": None}),
        (INVALID, {"sub": None}),
        (INVALID, {"scope": 1}),
        (INVALID, {"key": OTHER_KEY}),
        (INVALID, {"kid": "2", "key": OTHER_KEY}),  # Keycloak's is for encryption
        (INVALID, {"algorithm": "RS512"}),
        (INVALID, {"algorithm": "HS256", "key": "k" * 32}),
        (INVALID, {"algorithm": "none", "key": None}),
    ],
)
def test_who_gets_in(example: Example, seen: tuple[Any, ...], claims: dict[str, Any]) -> None:
    for path in ("/chat", "/announcements"):
        token = example.provider.token(**{"scope": "announce", **claims})
        assert example.open(token, path) == seen


def test_the_issuer_counts_to_the_letter(example: Example) -> None:
    name = example.provider.name
    other = name.removesuffix("/") if name.endswith("/") else f"{name}/"
    assert example.open(example.provider.token(iss=other)) == INVALID


@pytest.mark.parametrize("path", ["/chat", "/announcements", "/nowhere"])
def test_without_a_token_nobody_gets_anywhere(example: Example, path: str) -> None:
    assert example.open(None, path) == (1008, "token_missing")


@pytest.mark.parametrize(
    ("seen", "claims"),
    [
        (ADMITTED, {"scope": "openid announce"}),
        (ADMITTED, {"permissions": ["announce"]}),
        (ADMITTED, {"scope": "openid", "permissions": ["moderate", "announce"]}),
        (ADMITTED, {"realm_access": {"roles": ["offline_access", "speaker"]}}),
        (ADMITTED, {"scope": "profile email", "realm_access": {"roles": ["admin"]}}),
        (FORBIDDEN, {}),
        (FORBIDDEN, {"scope": "openid profile announcements"}),
        (FORBIDDEN, {"permissions": []}),
        (FORBIDDEN, {"permissions": ["announcements", "speaker"]}),
        (FORBIDDEN, {"realm_access": {"roles": ["announce", "Speaker"]}}),  # roles are no scopes
        (FORBIDDEN, {"roles": ["speaker"]}),
        (FORBIDDEN, {"resource_access": {"realm": {"roles": ["speaker"]}}}),
        *(
            (FORBIDDEN, {"permissions": odd})
            for odd in ("announce", 1, {"announce": 1}, [["announce"]])
        ),
        *((FORBIDDEN, {"permissions": [odd]}) for odd in (None, 1, True, {"announce": 1})),
        *((FORBIDDEN, {"realm_access": odd}) for odd in ("speaker", 1, ["speaker"], {})),
        *((FORBIDDEN, {"realm_access": {"roles": odd}}) for odd in ("speaker", {"speaker": 1})),
        (FORBIDDEN, {"realm_access": {"roles": [None, 1, ["speaker"], {"speaker": 1}]}}),
    ],
)
def test_announcing_takes_the_scope_wherever_the_provider_has_it(
    example: Example, seen: tuple[Any, ...], claims: dict[str, Any]
) -> None:
    token = example.provider.token(**claims)
    assert example.open(token, "/announcements") == seen
    assert example.open(token) == ADMITTED


def test_the_discovery_document_of_another_issuer_opens_nothing() -> None:
    with issuing() as issuer:
        provider = keycloak(issuer)
        with oidc(provider, f"{provider.name}/") as example:  # which leads to the same document
            for name in (provider.name, f"{provider.name}/"):
                seen = example.open(provider.token(iss=name))
                assert seen == (INVALID if name == provider.name else KEYS_UNAVAILABLE)
            assert provider.fetches() == (1, 0)


@pytest.mark.parametrize("example", ["oidc", "firebase"])
def test_an_example_without_its_settings_says_which(example: str) -> None:
    with forking.start([str(EXAMPLES / f"{example}.py")], env=without_settings()) as process:
        assert process.stdout
        written = process.stdout.read()
    assert process.returncode == 1
    assert written.startswith("Set ")
    assert written.count("\n") == 1
