"""What a new credential must prove before it takes over a login that is in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from asgi_wsauth.authenticator import Attempt, Authenticator
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, InsufficientScope, Reason
from asgi_wsauth.options import check_async
from asgi_wsauth.verifiers.chain import Misuse, awaitable

__all__ = ["ask", "check_not_revoked", "check_on_refresh", "check_same_login", "check_scopes"]

S = TypeVar("S")
H = TypeVar("H", bound=Callable[..., Awaitable[None]])


def check_on_refresh(hook: H | None) -> H | None:
    """The option, if it is an async function that takes what `ask` gives it, or None.

    Raises:
        ConfigurationError: it is neither.
    """
    example = "it is called with the session, the old principal and the new one"
    return None if hook is None else check_async("on_refresh", hook, takes=3, example=example)


def check_scopes(required: frozenset[str], principal: Principal) -> None:
    """Refuse a principal that lacks a scope.

    Raises:
        Denied: with `Reason.FORBIDDEN`.
    """
    if not required.issubset(principal.scopes):
        raise InsufficientScope(sorted(required))


def check_same_login(new: Attempt, old: Attempt) -> None:
    """Refuse a refresh by anybody else, and by another kind of login: what one verifier calls
    `alice` may be somebody else to the next one. A ticket counts as the login behind it; of that
    its method is known.

    Raises:
        Denied: with `Reason.FORBIDDEN`.
    """
    one, other = new.principal, old.principal
    assert one is not None and other is not None  # both were admitted
    if (one.issuer, one.identity) != (other.issuer, other.identity):
        raise Denied(Reason.FORBIDDEN, "a refresh for somebody else")
    if one.login_method is None and other.login_method is None:
        same = new.verifier == old.verifier
    else:
        same = (one.login_method or one.method) == (other.login_method or other.method)
    if not same:
        raise Denied(Reason.FORBIDDEN, "a refresh by another kind of login")


async def ask(
    on_refresh: Callable[[S, Principal, Principal], Awaitable[None]],
    session: S,
    old: Principal,
    new: Principal,
) -> None:
    """Ask the hook whether the new principal may take over.

    Raises:
        Denied: it may not, or the hook failed (`Reason.ERROR`).
    """
    try:
        await awaitable("on_refresh", on_refresh(session, old, new))
    except Denied:
        raise
    except Misuse as exc:
        raise Denied(Reason.ERROR, str(exc)) from exc
    except Exception as exc:
        raise Denied.because("on_refresh", exc) from exc


async def check_not_revoked(principal: Principal, authenticator: Authenticator) -> None:
    """As for a new socket: before this, a revocation is found in the store, and from here on it is
    heard of.

    Raises:
        Denied: it was revoked, or that can't be told.
    """
    revocations = authenticator.revocations
    if revocations is None:
        return
    candidate = _Candidate(principal)
    revocations.register(candidate)
    try:
        await authenticator.within_timeout(revocations.check(principal))
    finally:
        revocations.unregister(candidate)
    if candidate.denied is not None:
        raise candidate.denied


class _Candidate:
    """A principal that is about to take over a socket: a `LiveSocket` that nothing is sent to."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.denied: Denied | None = None

    def end(self, denied: Denied, /) -> None:
        self.denied = denied

    def renew(self, by: float, denied: Denied, /) -> None:
        self.denied = denied
