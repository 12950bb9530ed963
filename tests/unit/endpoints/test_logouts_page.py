"""docs/guides/logouts.md: what it shows, run as it stands there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handshakes import NOW, bearer, jwt_verifier, mint, now
from http_calls import call, request
from internet import internet
from issuer import jwk
from keys import RSA_KEY
from logouts import ISSUER, LOGOUT, event_token, post, push
from pages import blocks

from asgi_wsauth import MemoryStore, Revocations

pytestmark = pytest.mark.anyio

APP, HOOK = blocks("docs/guides/logouts.md")
REDIS = 'RedisStore.from_url(os.environ["REDIS_URL"])'
REALM = "https://id.acme.example/realms/main"
KEYS = f"{REALM}/protocol/openid-connect/certs"


def defined(code: str, **names: Any) -> Any:
    exec(code, names)
    return names


async def test_the_app(tmp_path: Path) -> None:
    assert REDIS in APP

    def signed(**claims: Any) -> str:
        times = {"iss": REALM, "iat": now() - 1, "exp": now() + 120}
        headers = {"kid": "k", "typ": "JWT"}
        return mint(RSA_KEY, algorithm="RS256", headers=headers, **{**times, **claims})

    login = signed(aud="chat", sid="s1", iat=now() - 60)
    other = signed(aud="chat", sid="s2", iat=now() - 60)
    logout = signed(aud="web", sid="s1", jti="a", events={LOGOUT: {}})
    with internet(tmp_path, "id.acme.example") as web:
        page = defined(APP.replace(REDIS, "MemoryStore()"), MemoryStore=MemoryStore)
        configuration = {"issuer": REALM, "jwks_uri": KEYS}
        web.pages[f"{REALM}/.well-known/openid-configuration"] = configuration
        web.pages[KEYS] = {"keys": [jwk(RSA_KEY, "k")]}
        statuses = [
            (await call(page["app"], request(headers=bearer(login)))).status,
            (await post(page["app"], login)).status,
            (await call(page["app"], request(headers=bearer(login)))).status,
            (await post(page["app"], logout)).status,
            (await call(page["app"], request(headers=bearer(login)))).status,
            (await call(page["app"], request(headers=bearer(other)))).status,
            (await call(page["app"], request(headers=bearer(logout)))).status,
        ]
    assert statuses == [404, 400, 404, 200, 401, 404, 401]  # there is nothing at that path


async def test_the_hook() -> None:
    page = defined(HOOK)

    class Users:
        async def find(self, **by: Any) -> str | None:
            known = [{"email": "a@example.com"}, {"issuer": ISSUER, "subject": "alice"}]
            return "42" if by in known else None

    subjects = [
        {"format": "email", "email": "a@example.com"},
        {"format": "iss_sub", "iss": ISSUER, "sub": "alice"},
    ]
    for subject in subjects:
        revocations = Revocations(MemoryStore(), clock=lambda: NOW)
        logouts = jwt_verifier(issuer=ISSUER, audience="chat")
        endpoint = page["endpoint"](revocations, logouts, Users())
        assert (await push(endpoint, event_token(subject))).status == 202
        revoked = await revocations.store.get_revocations([("user", f"[{len(ISSUER)}]{ISSUER} 42")])
        assert revoked == [NOW]
