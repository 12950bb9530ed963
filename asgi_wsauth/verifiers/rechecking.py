"""Asking again about a login that is in force, without a new credential."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from starlette.requests import HTTPConnection

from asgi_wsauth.credential import Credential, Principal, has_expired
from asgi_wsauth.denial import Denied, Reason
from asgi_wsauth.verifiers import Verifier
from asgi_wsauth.verifiers.chain import awaitable, no_principal

__all__ = ["Rechecks", "identify_again"]

_NOT_GOOD = (Reason.MISSING, Reason.MALFORMED, Reason.INVALID)


@runtime_checkable
class Rechecks(Protocol):
    """What a verifier may have besides, if whoever issued a credential may change their mind about
    it: as with opaque tokens, and unlike tokens that say all there is to know.
    """

    async def recheck(self, credential: Credential, conn: HTTPConnection, /) -> Principal | None:
        """Who is behind a credential by now, for which this verifier has vouched before; None if it
        isn't known any more. Nothing that was remembered counts.

        Args:
            credential: what was presented.
            conn: the connection, as it was at the handshake.

        Raises:
            Denied: it is refused.
        """
        ...


async def identify_again(
    verifier: Verifier | None,
    credential: Credential,
    known: Principal,
    conn: HTTPConnection,
    now: float,
) -> Principal:
    """Whom a credential that is in force vouches for now. One that has expired is not asked about:
    its socket may outlive it, if that is wanted.

    Args:
        verifier: who vouched for it.
        credential: it.
        known: for whom it did.
        conn: the connection.
        now: Unix time in seconds.

    Raises:
        Denied: it is refused; with `Reason.REVOKED` where it is good no more.
        Misuse: the verifier returned something else than a principal or None.
    """
    if not isinstance(verifier, Rechecks) or has_expired(known.expires_at, now):
        return known
    try:
        principal = await awaitable(f"{verifier!r}.recheck", verifier.recheck(credential, conn))
    except Denied as denied:
        if denied.reason not in _NOT_GOOD:
            raise
        raise Denied(Reason.REVOKED, denied.detail) from denied
    if principal is None:
        raise Denied(Reason.REVOKED, f"{verifier!r} does not know it any more")
    if not isinstance(principal, Principal):
        raise no_principal(f"{verifier!r}.recheck", principal)
    if (principal.issuer, principal.identity) != (known.issuer, known.identity):
        raise Denied(Reason.REVOKED, "it is somebody else's now")
    return principal
