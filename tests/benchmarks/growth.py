"""How an admission grows with the verifiers that are asked in vain, in process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

from handshakes import SECRET, mint, now

from asgi_wsauth import (
    APIKeyVerifier,
    Authenticator,
    InternalCredential,
    JWTVerifier,
    MemoryStore,
    Tickets,
    WebSocketAuthMiddleware,
)

from .handshake import accepting, admitted
from .measure import Loop, Row, interleaved

_ISSUER = "https://login.example"
_KEY = "wsk_" + secrets.token_urlsafe(32)


def rows(short: bool) -> Iterator[Row]:
    token = mint(exp=now() + 3600, iat=now(), iss=_ISSUER)
    jwt = JWTVerifier(SECRET, algorithms=["HS256"], issuer=_ISSUER)
    api_key = APIKeyVerifier({"robot": _KEY})
    others = [
        JWTVerifier(SECRET, algorithms=["HS256"], issuer=f"https://{number}.example")
        for number in range(19)
    ]
    kinds = [api_key, Tickets(MemoryStore()), InternalCredential()]
    with Loop(short) as loop:

        def one(verifiers: list[object], credential: str) -> object:
            auth = Authenticator(verifiers)
            return admitted(loop, WebSocketAuthMiddleware(accepting, auth), credential)

        candidates = {}
        baselines = {}
        for what, verifier, credential in (("a JWT", jwt, token), ("an API key", api_key, _KEY)):
            alone = f"{what}, 1 verifier"
            candidates[alone] = one([verifier], credential)
            for count in (5, 20):
                name = f"{what}, the last of {count} verifiers"
                candidates[name] = one([*others[: count - 1], verifier], credential)
                baselines[name] = alone
        mixed = "a JWT, after three other kinds"
        candidates[mixed] = one([*kinds, jwt], token)
        baselines[mixed] = "a JWT, 1 verifier"
        rounds = 1 if short else 20
        yield from interleaved("growth", "µs", candidates, None, rounds, baselines=baselines)
