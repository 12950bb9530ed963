"""A chat for whoever is signed in with Firebase Authentication.

    pip install -e '.[demo,jwks]'
    FIREBASE_PROJECT=my-project FIREBASE_API_KEY=AIza... python examples/firebase.py

Both are in the Firebase console under "Project settings". The key is the project's Web API key,
which is not a secret; a key restricted to web sites doesn't work here. The port is 8000, or what
PORT says; CERTIFICATES_URL and ACCOUNTS_URL can be set too. In a page that is signed in:

    new WebSocket(`ws://127.0.0.1:8000/chat?token=${await user.getIdToken()}`)

It shows a verifier that is a function around another one. The token proves who signed in. Only
Google knows whether it has been revoked since, or the user disabled or deleted, so it is asked at
each handshake. A client gets:

    4001 token_expired          reconnect with a new token: getIdToken(true)
    4001 keys_unavailable       Google's certificates are unavailable: the same, a little later
    4004 token_revoked          revoked, or the user disabled or deleted: sign in again
    1013 verifier_unavailable   Google's answer about the user is unavailable: reconnect later
    1008                        anything else: give up
"""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    JWKS,
    Authenticator,
    Credential,
    Denied,
    JWTVerifier,
    Principal,
    Reason,
    WebSocketAuthMiddleware,
)

if not {"FIREBASE_PROJECT", "FIREBASE_API_KEY"} <= os.environ.keys():
    raise SystemExit(
        "Set FIREBASE_PROJECT and FIREBASE_API_KEY; the first lines of this file say to what."
    )

PROJECT = os.environ["FIREBASE_PROJECT"]
API_KEY = os.environ["FIREBASE_API_KEY"]
CERTIFICATES_URL = os.environ.get("CERTIFICATES_URL") or (
    "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
)
ACCOUNTS_URL = os.environ.get("ACCOUNTS_URL") or (
    "https://identitytoolkit.googleapis.com/v1/accounts:lookup"
)
LEEWAY = 30  # seconds by which Google's clock and this one may differ

# All projects share these certificates: issuer and audience tell yours from the others.
signed = JWTVerifier(
    JWKS(CERTIFICATES_URL),
    algorithms=["RS256"],
    issuer=f"https://securetoken.google.com/{PROJECT}",
    audience=PROJECT,
    required_claims=["exp", "iat", "sub", "auth_time"],
    leeway=LEEWAY,
)


async def id_tokens(credential: Credential, conn: HTTPConnection) -> Principal | None:
    """The verifier: first the token itself, then what Google says about its user."""
    principal = await signed(credential, conn)
    if principal is None:
        return None
    auth_time = principal.claims["auth_time"]
    if type(auth_time) is not int or auth_time > time.time() + LEEWAY:
        raise Denied(Reason.INVALID, "its auth_time is no time in the past")
    google: httpx2.AsyncClient = conn.state.google
    about = {"idToken": credential.value}
    try:
        answer = await google.post(ACCOUNTS_URL, params={"key": API_KEY}, json=about)
        refusal = judge(principal.claims, answer.status_code, answer.json())
    except Exception as exc:  # no connection, no answer in time, or one that means nothing
        refusal = Denied(Reason.UNAVAILABLE, f"accounts:lookup: {type(exc).__name__}: {exc}")
    if refusal is not None:
        raise refusal
    return principal


def judge(claims: dict[str, Any], status: int, answer: Any) -> Denied | None:
    """What Google's answer says against a token that is good by itself.

    Raises:
        ValueError: it says neither yes nor no. That lets nobody in, and sends nobody to sign in.
    """
    match status, answer:
        case 200, {"users": [{"localId": uid, **user}]} if uid == claims["sub"]:
            # Either is left out where there is nothing to say.
            match user.get("disabled", False), user.get("validSince", "0"):
                case True, _:
                    return Denied(Reason.REVOKED, "the user is disabled")
                case False, str(since):
                    if claims["auth_time"] >= int(since):
                        return None
                    return Denied(Reason.REVOKED, "signed in before a revocation")
        case 200, {"kind": "identitytoolkit#GetAccountInfoResponse"} if (
            answer.get("users", []) == []
        ):
            return Denied(Reason.REVOKED, "no such user any more")
        case 400, {"error": {"message": str(message)}}:
            code = message.partition(":")[0].strip()  # words may follow
            if code in ("USER_DISABLED", "USER_NOT_FOUND"):
                return Denied(Reason.REVOKED, code)
            if code in ("TOKEN_EXPIRED", "INVALID_ID_TOKEN"):
                # Revoked; or about to expire here, and expired by Google's clock.
                expires = claims["exp"] <= time.time() + LEEWAY
                return Denied(Reason.EXPIRED if expires else Reason.REVOKED, code)
            raise ValueError(message)  # for example, that the API key is wrong
    raise ValueError(f"HTTP {status}, and no answer that is known")


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"Hello, {websocket.user.identity}")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.identity}: {text}")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, httpx2.AsyncClient]]:
    # One client for all handshakes, so that they share its connections.
    async with httpx2.AsyncClient(timeout=3) as google:  # the authenticator has 5 s for all of it
        yield {"google": google}


auth = Authenticator([id_tokens])
app = Starlette(
    lifespan=lifespan,
    routes=[WebSocketRoute("/chat", chat)],
    middleware=[Middleware(WebSocketAuthMiddleware, authenticator=auth)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
