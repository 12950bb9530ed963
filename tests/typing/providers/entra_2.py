from asgi_wsauth import Authenticator, JWTVerifier

TENANT = "7a0c0f4e-31d4-4b5a-9f0a-5d7c0f2b8e11"
PAGES = "e9d5b4b8-6a2e-4f3e-b1f0-2a6c3d4e5f33"

entra_v1 = JWTVerifier.from_oidc(
    f"https://sts.windows.net/{TENANT}/",
    algorithms=["RS256"],
    audience="api://chat.example",
    discovery_url=(f"https://login.microsoftonline.com/{TENANT}/.well-known/openid-configuration"),
    identity_claim="oid",
    claims={"appid": {PAGES}},
    scopes_claim=["scp", "roles"],
)
auth = Authenticator([entra_v1])
