"""A chat for the users of an OpenID Connect provider: Auth0, Keycloak, or another one.

    pip install -e '.[demo,jwks]'
    ISSUER=https://tenant.eu.auth0.com/ AUDIENCE=https://chat.example python examples/oidc.py
    ISSUER=https://keycloak.example/realms/main AUDIENCE=chat python examples/oidc.py

The port is 8000, or what PORT says. Connect to ws://127.0.0.1:8000/chat?token=ACCESS_TOKEN, or to
/announcements, which takes the scope `announce`.

ISSUER is the provider's issuer, exactly as it spells it: Auth0's ends with a slash, Keycloak's
doesn't. AUDIENCE is the provider's identifier of this service, never of a client: every ID token
has its client as the audience, and would be admitted, too.

- Auth0: AUDIENCE is the identifier of the API. Enable RBAC there, or applications get whatever
  scopes they ask for; and "Add Permissions in the Access Token".
- Keycloak: add a mapper of the type "Audience" to a client scope, with AUDIENCE as "Included Custom
  Audience". Without it, `aud` is `account`, or missing.

docs/guides/providers.md has recipes for other providers, and shorter ones for these two.
"""

import os
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import (
    Authenticator,
    Credential,
    JWTVerifier,
    Principal,
    VerdictCache,
    WebSocketAuthMiddleware,
)

if not {"ISSUER", "AUDIENCE"} <= os.environ.keys():
    raise SystemExit("Set ISSUER and AUDIENCE; the first lines of this file say to what.")

ISSUER = os.environ["ISSUER"]
AUDIENCE = os.environ["AUDIENCE"]

# What each realm role of Keycloak may do here. Roles that are not listed may do nothing more.
ROLES = {"speaker": ["announce"], "admin": ["announce", "moderate"]}

access_tokens = JWTVerifier.from_oidc(
    ISSUER,
    algorithms=["RS256"],  # the default of Auth0 and Keycloak
    audience=AUDIENCE,
    # For the reconnect storm after a deploy: a token isn't verified again within a minute.
    cache=VerdictCache(),
)


async def users(credential: Credential, conn: HTTPConnection) -> Principal | None:
    """The verifier: a user's permissions are in `scope`, but not only there.

    For Auth0 alone, `access_tokens` with `scopes_claim="permissions"` is enough.
    """
    principal = await access_tokens(credential, conn)
    if principal is not None:
        principal.scopes += tuple(more_scopes(principal.claims))
    return principal


def more_scopes(claims: dict[str, Any]) -> list[str]:
    match claims:
        case {"permissions": [*permissions]}:  # Auth0's
            return [permission for permission in permissions if isinstance(permission, str)]
        case {"realm_access": {"roles": [*roles]}}:  # Keycloak's
            return [scope for role in ROLES if role in roles for scope in ROLES[role]]
    return []


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(f"Hello, {websocket.user.identity}")
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.identity}: {text}")


auth = Authenticator([users])
announcers = Middleware(WebSocketAuthMiddleware, authenticator=auth, required_scopes=["announce"])
app = Starlette(
    routes=[
        WebSocketRoute("/chat", chat),
        WebSocketRoute("/announcements", chat, middleware=[announcers]),
    ],
    # Around the whole app, so that no route can be forgotten. The route's own middleware verifies
    # nothing again.
    middleware=[Middleware(WebSocketAuthMiddleware, authenticator=auth)],
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
