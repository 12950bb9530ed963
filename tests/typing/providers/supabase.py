from asgi_wsauth import JWKS, Authenticator, JWTVerifier

PROJECT = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"

supabase = JWTVerifier(
    JWKS(f"{PROJECT}/.well-known/jwks.json"),
    algorithms=["ES256"],
    issuer=PROJECT,
    audience="authenticated",
    claims={"role": "authenticated", "is_anonymous": False},
)
auth = Authenticator([supabase])
