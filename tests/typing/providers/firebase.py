from asgi_wsauth import JWKS, Authenticator, JWTVerifier

firebase = JWTVerifier(
    JWKS(
        "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
    ),
    algorithms=["RS256"],
    issuer="https://securetoken.google.com/acme-chat",
    audience="acme-chat",
    required_claims=["exp", "auth_time"],
)
auth = Authenticator([firebase])
