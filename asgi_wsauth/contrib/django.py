"""Users who are logged in to Django: `django.contrib.auth` on `django.contrib.sessions`. Needs the
extra `django`.

    from asgi_wsauth.contrib.django import DjangoSession, revoke_at_logout

    sessions = DjangoSession()
    revocations = Revocations(MemoryStore())
    revoke_at_logout(revocations)
    auth = Authenticator(
        [sessions],
        sources=[sessions.cookie],
        allowed_origins=["https://chat.example"],
        load_user=sessions.load_user,
        revocations=revocations,
    )
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import sync_to_async
from starlette.requests import HTTPConnection

from asgi_wsauth.contrib.django_lookup import (
    SESSION_KEY,
    connected,
    django_settings,
    ends_at,
    is_known,
    session_id,
    session_store,
    unknown,
    user_by_key,
    user_of,
)
from asgi_wsauth.contrib.django_signals import revoke_at_logout
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import Denied, FailsClosed, Reason
from asgi_wsauth.options import ConfigurationError, check_callable, check_clock
from asgi_wsauth.sources import Cookie

__all__ = ["DjangoSession", "revoke_at_logout", "session_id"]


class DjangoSession:
    """Vouches for whom Django has logged in, by the key of the session, which is in its cookie.

    It asks what `request.user` asks, and changes nothing: the session by the project's
    `SESSION_ENGINE`; the user by the backend of the login, if that is still one of
    `AUTHENTICATION_BACKENDS`; and whether the session has the hash of the user's password, made
    with `SECRET_KEY` or one of `SECRET_KEY_FALLBACKS`.

    - A session without a login is MISSING: a visitor.
    - A session that the project doesn't have is INVALID; one whose time is over, where the engine
      can tell, EXPIRED.
    - A user who is gone or locked (`is_active`), whose password was changed or whose backend was
      removed, is REVOKED.
    - A database or cache that fails is UNAVAILABLE.

    The principal's `identity` is the user's primary key as text, its `display_name` the user name,
    its `expires_at` the end of the session, as it is at this moment, and its `method` `django`. Its
    `session_id` is a digest of the session's key: see `session_id`. The database is asked anew for
    each connection, so `issued_at` is that moment: `Revocations.revoke_user` closes the user's open
    sockets, and who may open new ones is up to the database. With
    `WebSocketAuthMiddleware(recheck=...)`, it is also asked about open sockets from time to time.

    Args:
        scopes: a function from the user to a list of scopes, such as `lambda user:
            user.get_all_permissions()`; it may ask the database. Anything that isn't a list of
            strings is ERROR. None for no scopes.
        clock: a function that returns Unix time in seconds, for tests.

    Attributes:
        cookie: the source for the cookie that `SESSION_COOKIE_NAME` names. Needs `allowed_origins`.

    Raises:
        ConfigurationError: an option can't work, Django (the extra `django`) is not installed, its
            settings are not configured, its apps not loaded, or `django.contrib.auth` is not among
            them.
    """

    def __init__(
        self,
        *,
        scopes: Callable[[Any], Iterable[str]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        settings = django_settings("DjangoSession")
        if scopes is not None:
            example = "write for example lambda user: user.get_all_permissions()"
            check_callable(
                "DjangoSession: scopes", scopes, takes=1, is_async=False, example=example
            )
        self.cookie = Cookie(settings.SESSION_COOKIE_NAME)
        self._scopes = scopes
        self._clock = check_clock("DjangoSession: clock", clock)

    async def __call__(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        key = credential.value
        if credential.source != repr(self.cookie) and not SESSION_KEY.fullmatch(key):
            return None
        now = self._clock()  # before the database is read: a later revocation counts
        with FailsClosed(self):
            found: Principal | Denied = await sync_to_async(connected)(self._judge, key, now)
        if isinstance(found, Denied):
            raise found
        return found

    async def recheck(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        """Ask the database again; see `Rechecks`."""
        return await self(credential, conn)

    def _judge(self, key: str, now: float) -> Principal | Denied:
        """The verdict, in the thread in which Django does what is not asynchronous."""
        store = session_store(key)
        data = dict(store.items())
        if not data and not is_known(store, key):
            return unknown(store, key)
        user = user_of(data)
        if isinstance(user, Denied):
            return user
        scopes = () if self._scopes is None else self._scopes(user)
        ends = ends_at(store, key)
        try:
            return Principal(
                str(user.pk),
                display_name=user.get_username(),
                scopes=scopes,
                issued_at=now,
                expires_at=ends,
                session_id=session_id(key),
                method="django",
            )
        except ConfigurationError as exc:  # of what the function returned
            return Denied(Reason.ERROR, f"{self!r}: {exc}")

    async def load_user(self, principal: Principal, conn: HTTPConnection) -> Any:
        """For `Authenticator(load_user=...)`: Django's user, for `scope["user"]`, where the login
        was a session, or a ticket for one. A principal of another kind of login stays what it is.

        Returns:
            The user; None if the account is gone or locked.

        Raises:
            Denied: with `Reason.UNAVAILABLE`, where the database fails.
        """
        if "django" not in (principal.method, principal.login_method):
            return principal
        with FailsClosed(self):
            return await sync_to_async(connected)(user_by_key, principal.identity)

    def __repr__(self) -> str:
        return "<DjangoSession>"
