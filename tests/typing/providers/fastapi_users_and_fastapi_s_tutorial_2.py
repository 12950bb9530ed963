import os

from asgi_wsauth import Authenticator, JWTVerifier

tutorial = JWTVerifier(os.environ["SECRET_KEY"], algorithms=["HS256"])
auth = Authenticator([tutorial])
