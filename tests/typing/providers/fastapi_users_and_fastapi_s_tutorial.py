import os

from asgi_wsauth import Authenticator, JWTVerifier, MemoryStore, Revocations

fastapi_users = JWTVerifier(
    os.environ["SECRET"],
    algorithms=["HS256"],
    audience="fastapi-users:auth",
)
auth = Authenticator(
    [fastapi_users],
    revocations=Revocations(MemoryStore(), max_token_age=3600),  # as long as a token lives
)
