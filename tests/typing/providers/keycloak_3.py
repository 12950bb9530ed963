import os

from asgi_wsauth import Authenticator, TokenIntrospection

REALM = "https://id.acme.example/realms/main"

lightweight = TokenIntrospection(
    f"{REALM}/protocol/openid-connect/token/introspect",
    client_id="chat",
    client_secret=os.environ["CLIENT_SECRET"],
    include_jwts=True,
    claims={"iss": REALM, "typ": "Bearer", "azp": {"web", "mobile"}},
    scopes_claim=["scope", ("realm_access", "roles")],
)
auth = Authenticator([lightweight])
