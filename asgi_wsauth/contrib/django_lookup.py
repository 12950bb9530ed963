"""What Django is asked about a login. All of it is synchronous, for one call of a thread: Django's
asynchronous functions would each take one. Nothing in the database is changed.
"""

# Django has no type hints.
# mypy: disable-error-code="import-untyped"
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from importlib import import_module
from operator import attrgetter
from typing import Any

from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.options import ConfigurationError, kind_of, needs_extra

__all__ = [
    "SESSION_KEY",
    "connected",
    "django_settings",
    "ends_at",
    "is_known",
    "session_id",
    "session_store",
    "unknown",
    "user_by_key",
    "user_of",
]

SESSION_KEY = re.compile("[a-z0-9]{32}")
"""What Django makes, but where the session is the cookie itself."""


def django_settings(part: str) -> Any:
    """The project's settings, if Django is set up.

    Raises:
        ConfigurationError: it is not.
    """
    with needs_extra(part, "django", "django"):
        from django.apps import apps
        from django.conf import settings
    if not apps.ready:
        raise ConfigurationError(
            f"{part} must be called after Django is set up; call get_asgi_application() or "
            "django.setup() first"
        )
    if not apps.is_installed("django.contrib.auth"):
        raise ConfigurationError(f"{part}: INSTALLED_APPS must have django.contrib.auth in it")
    return settings


def session_id(session_key: str) -> str:
    """The `Principal.session_id` of a session: the SHA-256 of its key in hex, because whoever has
    the key is the user. For code of your own that ends sessions:

        await revocations.revoke_session(session_id(session.session_key))

    Args:
        session_key: as in Django's `request.session.session_key`.

    Raises:
        ConfigurationError: it isn't a string, or is empty.
    """
    if not isinstance(session_key, str) or not session_key:
        given = "''" if session_key == "" else kind_of(session_key)
        raise ConfigurationError(f"session_key must be a session's key, got {given}")
    return sha256(session_key.encode()).hexdigest()


def connected(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with connections to the database that work, as Django sees to it around each
    request."""
    from django.db import close_old_connections

    close_old_connections()
    try:
        return ask(*arguments)
    finally:
        close_old_connections()


def session_store(key: str) -> Any:
    """The session of a key, as the project's engine keeps it."""
    from django.conf import settings

    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def is_known(store: Any, key: str) -> bool:
    """Whether a session that has nothing in it is one all the same: a visitor's. Engines forget the
    key of one that they don't have, or begin another."""
    return bool(store.session_key == key and not store.modified)


def unknown(store: Any, key: str) -> Denied:
    """Why there is no such session.

    Raises:
        Exception: because the cache failed, which Django takes for a session that isn't there.
    """
    from django.conf import settings
    from django.contrib.sessions.backends.cache import SessionStore as CacheStore
    from django.core.cache import caches

    if isinstance(store, CacheStore) and SESSION_KEY.fullmatch(key):
        caches[settings.SESSION_CACHE_ALIAS].get(store.cache_key_prefix + key)
    model = getattr(store, "model", None)
    if model is not None and model.objects.filter(session_key=key).exists():
        return Denied(Reason.EXPIRED, "the session has expired")
    return Denied(Reason.INVALID, "there is no such session")


def user_of(data: Mapping[str, Any]) -> Any:
    """The user whom a session's data name, or why there is none."""
    from django.conf import settings
    from django.contrib import auth

    text, path = data.get(auth.SESSION_KEY), data.get(auth.BACKEND_SESSION_KEY)
    if text is None or path is None:
        return Denied(Reason.MISSING, "nobody is logged in to the session")
    if path not in settings.AUTHENTICATION_BACKENDS:
        return Denied(Reason.REVOKED, "the user's backend was removed from the settings")
    backend = auth.load_backend(path)
    # `_meta` is public, in Django's documentation.
    user = backend.get_user(attrgetter("_meta.pk.to_python")(auth.get_user_model())(text))
    if user is None or not _may_log_in(user, backend):
        return Denied(Reason.REVOKED, "the user is gone or locked")
    if not _has_hash_of(user, data.get(auth.HASH_SESSION_KEY)):
        return Denied(Reason.REVOKED, "the user's password was changed")
    return user


def _may_log_in(user: Any, backend: Any) -> bool:
    """Whether a user isn't locked, which most backends see to, or is let in all the same, as by
    `AllowAllUsersModelBackend`."""
    if getattr(user, "is_active", True):
        return True
    can_authenticate = getattr(backend, "user_can_authenticate", None)
    return can_authenticate is not None and can_authenticate(user) is True


def _has_hash_of(user: Any, session_hash: str | None) -> bool:
    """Whether a session is as young as its user's password. Django would store a new hash where it
    was made with an old `SECRET_KEY`, under a new session key, which no WebSocket could tell the
    browser."""
    from django.utils.crypto import constant_time_compare

    if not hasattr(user, "get_session_auth_hash"):
        return True
    if not session_hash:
        return False
    hashes = user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()
    return any(constant_time_compare(session_hash, known) for known in hashes)


def ends_at(store: Any, key: str) -> float:
    """When a session ends, in Unix time. Engines that keep no such date count from now."""
    model = getattr(store, "model", None)
    ends = None
    if model is not None:
        ends = model.objects.filter(session_key=key).values_list("expire_date", flat=True).first()
    return float((ends or store.get_expiry_date()).timestamp())


def user_by_key(identity: str) -> Any:
    """The user with this primary key, if a backend knows and admits one; or None."""
    from django.contrib import auth

    key = attrgetter("_meta.pk.to_python")(auth.get_user_model())(identity)
    for backend in auth.get_backends():
        user = backend.get_user(key)
        if user is not None and _may_log_in(user, backend):
            return user
    return None
