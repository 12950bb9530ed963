from asgi_wsauth import Authenticator, JWTVerifier

okta = JWTVerifier.from_oidc(
    "https://acme.okta.com/oauth2/default",
    algorithms=["RS256"],
    audience="api://chat",
    identity_claim="uid",
    claims={"cid": {"0oa1web", "0oa2mobile"}},
    scopes_claim="scp",
)
auth = Authenticator([okta])
