from asgi_wsauth import Authenticator, JWTVerifier

cognito = JWTVerifier.from_oidc(
    "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
    algorithms=["RS256"],
    audience=None,  # its access tokens have no aud
    claims={"token_use": "access", "client_id": {"2web5client"}},
    scopes_claim=["scope", "cognito:groups"],
)
auth = Authenticator([cognito])
