import os

from asgi_wsauth import Authenticator, JWTVerifier

HASURA = "https://hasura.io/jwt/claims"

hasura = JWTVerifier(
    os.environ["HASURA_KEY"],
    algorithms=["HS256"],
    identity_claim=(HASURA, "x-hasura-user-id"),
    scopes_claim=(HASURA, "x-hasura-allowed-roles"),
)
auth = Authenticator([hasura])
