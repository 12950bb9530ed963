from asgi_wsauth import Authenticator, JWTVerifier

clerk = JWTVerifier.from_oidc(
    "https://clerk.acme.example",
    algorithms=["RS256"],
    audience=None,  # its session tokens have no aud
    claims={"azp": {"https://chat.acme.example"}},
    required_claims=["exp", "sid"],
)
auth = Authenticator([clerk])
