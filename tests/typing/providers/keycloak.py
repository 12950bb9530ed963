from asgi_wsauth import Authenticator, JWTVerifier

keycloak = JWTVerifier.from_oidc(
    "https://id.acme.example/realms/main",
    algorithms=["RS256"],
    audience="chat",
    claims={"typ": "Bearer", "azp": {"web", "mobile"}},
    scopes_claim=["scope", ("realm_access", "roles"), ("resource_access", "chat", "roles")],
)
auth = Authenticator([keycloak])
