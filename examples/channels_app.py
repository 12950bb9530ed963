"""Django Channels on Daphne: a chat whose users are Django's, let in by a token.

    pip install -e . channels daphne websockets
    python examples/channels_app.py

It prints a URL with a token that is valid for five minutes; connect to it with
`python -m websockets URL`. Set PORT to change the port (8000), and SECRET to choose the key.

What it shows:

- The middleware is around the `URLRouter`, instead of `AuthMiddlewareStack`: the token is the login
  here, and sessions aren't used.
- `load_user` returns a Django user, so consumers find the usual `self.scope["user"]`. An inactive
  one is refused with 4004.
- Daphne can't send codes such as 1008, so it has a table of its own.
- `disconnect` gets the close code: 4001 if the token expired.
- Django's `request.user` comes from a session cookie. The token's user is
  `request.scope["user"]`.
"""

# Django has no type hints, and those for Channels know little about the scope.
# mypy: disable-error-code="import-untyped,misc"
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportTypedDictNotRequiredAccess=false

import logging
import os
import secrets
import sys
import tempfile

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management import call_command, execute_from_command_line
from django.http import HttpRequest, JsonResponse
from django.urls import path
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Authenticator,
    HTTPAuthMiddleware,
    JWTVerifier,
    Principal,
    RedactCredentials,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
scratch = tempfile.TemporaryDirectory()  # gone after Ctrl+C

# What a project has in its settings.py
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ASGI_APPLICATION=f"{__name__}.application",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{scratch.name}/db"}},
    INSTALLED_APPS=["daphne", "django.contrib.auth", "django.contrib.contenttypes"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_urlsafe(50),
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402 - it needs the settings


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.send_json({"hello": self.scope["user"].get_full_name()})

    async def receive_json(self, content: object, **kwargs: object) -> None:
        await self.send_json({"from": self.scope["user"].username, "said": content})

    async def disconnect(self, code: int) -> None:
        print(f"{self.scope['user'].username} left: {code}", flush=True)


def me(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"me": request.scope["user"].get_full_name()})


async def load_user(principal: Principal, conn: HTTPConnection) -> User | None:
    return await User.objects.filter(username=principal.identity, is_active=True).afirst()


tokens = JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")
auth = Authenticator([tokens], load_user=load_user)
urlpatterns = [path("me", me)]
consumers = URLRouter([path("chat", Chat.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": HTTPAuthMiddleware(get_asgi_application(), auth),
        "websocket": WebSocketAuthMiddleware(consumers, auth, close_codes=DAPHNE_CLOSE_CODES),
    }
)

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    # Daphne logs the query of each HTTP request as the client sent it.
    logging.getLogger().handlers[0].addFilter(RedactCredentials(auth))
    call_command("migrate", verbosity=0)
    User.objects.create(username="alice", first_name="Alice", last_name="Liddell")
    User.objects.create(username="mallory", is_active=False)
    port = os.environ.get("PORT", "8000")
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}", flush=True)
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", f"127.0.0.1:{port}"])
