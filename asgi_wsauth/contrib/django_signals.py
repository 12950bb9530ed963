"""Sockets end with the login in Django: `revoke_at_logout`."""

# Django has no type hints.
# mypy: disable-error-code="import-untyped"
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from asgiref.sync import async_to_sync

from asgi_wsauth.contrib.django_lookup import django_settings, session_id
from asgi_wsauth.events import logger
from asgi_wsauth.options import check_instance
from asgi_wsauth.policies.revocation import Revocations

__all__ = ["revoke_at_logout"]


def revoke_at_logout(revocations: Revocations) -> Callable[[], None]:
    """Have the sockets of a login closed, with `Reason.REVOKED`, when Django ends it:

    - a logout closes those of the session, and so does a login in its place;
    - a new password, or an account that is locked (`is_active`) or deleted, closes all of that
      user's, once the transaction is committed.

    Call it once, where Django is set up: in the module of the ASGI app, or in `AppConfig.ready`.
    Where other processes serve the sockets, or there are several, `revocations` must be in a store
    that they share.

    It listens to Django's signals, which `QuerySet.update` and raw SQL don't send: call
    `Revocations.revoke_user` after those, or have `WebSocketAuthMiddleware(recheck=...)` find out.
    If the store fails, the sockets stay open, the log has an error, and the logout goes on: the
    database refuses new ones.

    Args:
        revocations: the `Revocations` of the authenticators.

    Returns:
        A function that undoes it.

    Raises:
        ConfigurationError: it isn't a `Revocations`, or Django is not set up.
    """
    check_instance("revocations", revocations, Revocations, "Revocations(MemoryStore())")
    django_settings("revoke_at_logout")
    from django.apps import apps
    from django.contrib.auth import get_user_model
    from django.contrib.auth.signals import user_logged_in, user_logged_out
    from django.db.models.signals import post_delete, post_save, pre_save

    receivers = _Receivers(revocations)
    # A proxy model sends its own signals.
    users = [model for model in apps.get_models() if issubclass(model, get_user_model())]
    connected: list[tuple[Any, Callable[..., None], Any]] = [
        (user_logged_out, receivers.logged_out, None),
        (user_logged_in, receivers.logged_in, None),
        *((pre_save, receivers.before_save, model) for model in users),
        *((post_save, receivers.after_save, model) for model in users),
        *((post_delete, receivers.after_delete, model) for model in users),
    ]
    for signal, receiver, sender in connected:
        signal.connect(receiver, sender=sender, weak=False)

    def undo() -> None:
        for signal, receiver, sender in connected:
            signal.disconnect(receiver, sender=sender)

    return undo


class _Receivers:
    """What hears Django's signals."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations
        self._mark = f"asgi_wsauth {id(self)}"

    def logged_out(self, request: Any, **more: Any) -> None:
        self._revoke_session(_key_of(request))

    def logged_in(self, request: Any, **more: Any) -> None:
        """Whoever was logged in before, under another key, gets no signal."""
        from django.conf import settings

        before = getattr(request, "COOKIES", {}).get(settings.SESSION_COOKIE_NAME)
        if before != _key_of(request):
            self._revoke_session(before)

    def before_save(
        self, sender: Any, instance: Any, using: str, update_fields: Any, **more: Any
    ) -> None:
        """Only the database still knows the password that was."""
        vars(instance).pop(self._mark, None)
        if instance.pk is None or (
            update_fields is not None and not {"password", "is_active"} & {*update_fields}
        ):
            return
        users = attrgetter("_base_manager")(sender)  # which is public, in Django's documentation
        before = users.using(using).filter(pk=instance.pk).first()
        if before is not None and _is_ended(before, instance):
            vars(instance)[self._mark] = True

    def after_save(self, instance: Any, using: str, **more: Any) -> None:
        if vars(instance).pop(self._mark, False):
            self._revoke_user(instance, using)

    def after_delete(self, instance: Any, using: str, **more: Any) -> None:
        self._revoke_user(instance, using)

    def _revoke_session(self, key: str | None) -> None:
        if key:
            self._revoke(self._revocations.revoke_session, session_id(key))

    def _revoke_user(self, user: Any, using: str) -> None:
        from django.db import transaction

        identity = str(user.pk)
        transaction.on_commit(
            lambda: self._revoke(self._revocations.revoke_user, identity), using=using
        )

    def _revoke(self, revoke: Callable[[str], Any], name: str) -> None:
        try:
            async_to_sync(revoke)(name)
        except Exception as exc:
            logger.error("the sockets of a login that ended in Django stay open: %s", exc)


def _key_of(request: Any) -> str | None:
    key: str | None = getattr(getattr(request, "session", None), "session_key", None)
    return key


def _is_ended(before: Any, user: Any) -> bool:
    """Whether a change of a user ends the user's logins."""
    if getattr(before, "is_active", True) and not getattr(user, "is_active", True):
        return True
    if not hasattr(user, "get_session_auth_hash"):
        return False
    return bool(before.get_session_auth_hash() != user.get_session_auth_hash())
