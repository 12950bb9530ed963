from asgi_wsauth import Authenticator, JWTVerifier

TENANT = "7a0c0f4e-31d4-4b5a-9f0a-5d7c0f2b8e11"
CHAT = "c2a1c1de-8a3c-4d53-a7f5-0f5a8b6f7d22"
PAGES = "e9d5b4b8-6a2e-4f3e-b1f0-2a6c3d4e5f33"

entra = JWTVerifier.from_oidc(
    f"https://login.microsoftonline.com/{TENANT}/v2.0",
    algorithms=["RS256"],
    audience=CHAT,
    identity_claim="oid",
    claims={"azp": {PAGES}},
    scopes_claim=["scp", "roles"],
)
auth = Authenticator([entra])
