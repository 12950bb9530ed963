"""A Django project with users: `django_site:app` is what a server runs, `WebSocketAuthMiddleware`
around Django and an echo of WebSockets. Its database is the file that SITE_DATABASE names, or a new
one; `make_tables` is for who imports it first.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings

if not settings.configured:
    _scratch = tempfile.mkdtemp(prefix="site")
    atexit.register(shutil.rmtree, _scratch)
    DATABASE = os.environ.get("SITE_DATABASE", f"{_scratch}/db")
    settings.configure(
        ALLOWED_HOSTS=["*"],
        CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": DATABASE,
                "OPTIONS": {"timeout": 20},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "knox",
            "rest_framework.authtoken",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        MIGRATION_MODULES=dict.fromkeys(["auth", "contenttypes", "sessions", "knox", "authtoken"]),
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="dK3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz",
        SESSION_FILE_PATH=_scratch,
        USE_TZ=True,
    )
    django.setup()

from django.contrib import auth
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.http import HttpRequest, JsonResponse
from django.urls import path

from asgi_wsauth import (
    DAPHNE_CLOSE_CODES,
    Authenticator,
    MemoryStore,
    Revocations,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.contrib.django import DjangoSession, revoke_at_logout

ORIGIN = "https://site.example"
PASSWORD = "correct horse"


def make_tables() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)


def make_user(name: str, **more: Any) -> User:
    return User.objects.create_user(name, password=PASSWORD, **more)


# What a page can do.


def login(request: HttpRequest) -> JsonResponse:
    user = auth.authenticate(request, **json.loads(request.body))
    if user is None:
        return JsonResponse({}, status=403)
    auth.login(request, user)
    return JsonResponse({"user": user.pk})


def logout(request: HttpRequest) -> JsonResponse:
    auth.logout(request)
    return JsonResponse({})


async def logout_async(request: HttpRequest) -> JsonResponse:
    await auth.alogout(request)
    return JsonResponse({})


def change_password(request: HttpRequest) -> JsonResponse:
    """And stay logged in."""
    request.user.set_password(json.loads(request.body)["password"])
    request.user.save()
    auth.update_session_auth_hash(request, request.user)
    return JsonResponse({})


def lock(request: HttpRequest, name: str) -> JsonResponse:
    """What an administrator can do."""
    user = User.objects.get(username=name)
    user.is_active = False
    user.save()
    return JsonResponse({})


def visit(request: HttpRequest) -> JsonResponse:
    """A session without a login."""
    request.session["cart"] = [1]
    return JsonResponse({"user": request.user.pk})


urlpatterns = [
    path("login", login),
    path("logout", logout),
    path("logout-async", logout_async),
    path("password", change_password),
    path("lock/<name>", lock),
    path("visit", visit),
]

# What a server runs.

site = get_asgi_application()
sessions = DjangoSession()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Says who is there and what was left of the cookies, and then everything back."""
    await receive()
    await send({"type": "websocket.accept"})
    cookies = [value.decode() for name, value in scope["headers"] if name == b"cookie"]
    permissions = await sync_to_async(scope["user"].get_all_permissions)()
    told = [scope["user"].username, cookies, sorted(permissions)]
    await send({"type": "websocket.send", "text": json.dumps(told)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text")})


async def both(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await (site if scope["type"] == "http" else echo)(scope, receive, send)


if "SITE_DATABASE" in os.environ:
    revocations = Revocations(MemoryStore())
    revoke_at_logout(revocations)
    app = WebSocketAuthMiddleware(
        both,
        Authenticator(
            [sessions],
            sources=[sessions.cookie],
            allowed_origins=[ORIGIN],
            load_user=sessions.load_user,
            revocations=revocations,
        ),
        close_codes=DAPHNE_CLOSE_CODES if "SITE_ON_DAPHNE" in os.environ else {},
        recheck=1,
        allow_unguarded_http=True,
    )
