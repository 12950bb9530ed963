"""Parts of a Django project that fail, or are as people write them."""

from __future__ import annotations

from threading import Event
from types import SimpleNamespace
from typing import Any

from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError


class SessionStore(DatabaseStore):
    """`SESSION_ENGINE = "django_faults"`: its database is down."""

    def load(self) -> Any:
        raise OperationalError("connection refused")


class BrokenCache(LocMemCache):
    def get(self, *args: Any, **more: Any) -> Any:
        raise ConnectionError("connection refused")


class BrokenBackend(ModelBackend):
    def get_user(self, user_id: Any) -> Any:
        raise OperationalError("connection refused")


class HangingBackend(ModelBackend):
    """Its database doesn't answer."""

    goes_on = Event()

    def get_user(self, user_id: Any) -> Any:
        self.goes_on.wait(30)


class NaiveBackend(BaseBackend):
    """Doesn't look whether a user is locked."""

    def get_user(self, user_id: Any) -> Any:
        return User.objects.get(pk=user_id)


class GuestBackend(BaseBackend):
    """Its users are no models, and have no password."""

    def get_user(self, user_id: Any) -> Any:
        return SimpleNamespace(pk=user_id, get_username=lambda: "guest")
