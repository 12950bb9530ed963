from asgi_wsauth import JWKS, Authenticator, Header, JWTVerifier

TEAM = "https://acme.cloudflareaccess.com"

access = JWTVerifier(
    JWKS(f"{TEAM}/cdn-cgi/access/certs"),
    algorithms=["RS256"],
    issuer=TEAM,
    audience="32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228",
    claims={"type": "app"},
)
auth = Authenticator([access], sources=[Header("cf-access-jwt-assertion")])
