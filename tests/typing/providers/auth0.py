from asgi_wsauth import Authenticator, JWTVerifier

auth0 = JWTVerifier.from_oidc(
    "https://acme.eu.auth0.com/",
    algorithms=["RS256"],
    audience="https://chat.example/api",
    scopes_claim=["scope", "permissions"],
)
auth = Authenticator([auth0])
