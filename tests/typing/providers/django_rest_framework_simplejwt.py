import os

from asgi_wsauth import Authenticator, JWTVerifier

simplejwt = JWTVerifier(
    os.environ["DJANGO_SECRET_KEY"],
    algorithms=["HS256"],
    identity_claim="user_id",
    claims={"token_type": "access"},
)
auth = Authenticator([simplejwt])
