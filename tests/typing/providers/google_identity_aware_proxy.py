from asgi_wsauth import JWKS, Authenticator, Header, JWTVerifier

proxy = JWTVerifier(
    JWKS("https://www.gstatic.com/iap/verify/public_key"),
    algorithms=["ES256"],
    issuer="https://cloud.google.com/iap",
    audience="/projects/123456789/global/backendServices/987654321",
)
auth = Authenticator([proxy], sources=[Header("x-goog-iap-jwt-assertion")])
