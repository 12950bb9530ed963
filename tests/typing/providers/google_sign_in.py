from asgi_wsauth import JWKS, Authenticator, JWTVerifier

google = JWTVerifier(
    JWKS("https://www.googleapis.com/oauth2/v3/certs"),
    algorithms=["RS256"],
    issuer=["https://accounts.google.com", "accounts.google.com"],
    audience="1234-chat.apps.googleusercontent.com",
    claims={"hd": "acme.example"},  # this company's users only
)
auth = Authenticator([google])
