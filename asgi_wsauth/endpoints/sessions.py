"""Shows users where they are logged in, and ends what they don't want."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import fields
from typing import NamedTuple, TypeAlias

from anyio.lowlevel import checkpoint
from starlette.requests import Request

from asgi_wsauth.authenticator import Authenticator
from asgi_wsauth.connection.admission import Admission
from asgi_wsauth.connection.renewal import check_scopes
from asgi_wsauth.credential import Principal
from asgi_wsauth.denial import Denied, FailsClosed, HTTPAnswer, Reason, json_answer
from asgi_wsauth.endpoints.admitting import AdmittingEndpoint
from asgi_wsauth.endpoints.bodies import Unreadable
from asgi_wsauth.events import Admitted, SessionsEnded
from asgi_wsauth.options import check_async, check_instance, check_scope
from asgi_wsauth.policies.entries import SessionEntry
from asgi_wsauth.policies.sessions import Sessions
from asgi_wsauth.verifiers.chain import awaitable

__all__ = ["OnEnd", "SessionsEndpoint"]

OnEnd: TypeAlias = Callable[[SessionEntry], Awaitable[None]]

_CURRENT = "current"
# What can only be an id as `Session` makes it: no endpoint is mounted on a path like that. One id
# in a hundred thousand has no capital; it is known as long as it is listed.
_IS_AN_ID = re.compile("(?=.*[A-Z])[A-Za-z0-9_-]{22}").fullmatch
_FIELDS = [field.name for field in fields(SessionEntry)]
_AT_ONCE = 500  # entries that are shown between two turns of the event loop


class SessionsEndpoint(AdmittingEndpoint):
    """An ASGI app in which users see their open sockets, and end them. Mount it at any path of any
    router:

        Mount("/sessions", SessionsEndpoint(sessions, auth))

    - `GET /sessions/` answers 200 and `{"user": "alice", "issuer": null, "sessions": [...]}`, the
      oldest first. Each has the fields of a `SessionEntry`, and `current`: whether it was opened
      with the credential of this request. Of a socket that was opened with a ticket, that can't be
      known; its page knows the id if your app sends it `scope["wsauth"].id`.
    - `DELETE /sessions/{id}` ends one of them: 200 and `{"ended": 1}`.
    - `DELETE /sessions/?keep={id}` ends all but that one: 200 and `{"ended": 2}`. There may be
      several `keep`, and `keep=current` keeps all that are `current`, even if none is.

    If there is no such socket, or it is another user's, the answer is 404 and `{"error":
    "session_not_found"}`, and nothing is ended. Clients that are ended get `Reason.REVOKED`. Their
    credentials stay valid: revoke those in `on_end`, or they may come back.

    With `admin_scope`, whoever has that scope may add `?user=bob` to see and to end those of `bob`
    instead, at every issuer, or with `&issuer=...` at one of them.

    It decides by itself, or reuses the decision of an `HTTPAuthMiddleware` around it that has the
    same authenticator. A refusal is JSON, as there. With a login by cookie, `DELETE` needs an
    `Origin` that the authenticator allows, so no other site can ask in its visitor's name. A
    query that can't be understood is answered with 400 and
    `{"error": "invalid_request", "error_description": "..."}`, which says why, and another method
    with 405; nothing is ended. If the store fails, the answer is 503.

    Args:
        sessions: the `Sessions` of your `WebSocketAuthMiddleware`.
        authenticator: who decides.
        admin_scope: the scope of administrators, who may see and end anybody's sockets; None for
            nobody.
        on_end: an async function that is called with each `SessionEntry` that a request is about to
            end, before any is. It can revoke the login behind it. If it raises, nothing is ended,
            and the answer is 503.

    Raises:
        ConfigurationError: an option can't work.
    """

    methods = ("GET", "HEAD", "DELETE")
    purpose = "sessions"

    def __init__(
        self,
        sessions: Sessions,
        authenticator: Authenticator,
        *,
        admin_scope: str | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        super().__init__(authenticator)
        self.sessions = check_instance("sessions", sessions, Sessions, "Sessions(MemoryStore())")
        self.admin_scope = None if admin_scope is None else check_scope("admin_scope", admin_scope)
        self.on_end = on_end
        if on_end is not None:
            check_async("on_end", on_end, takes=1, example="it is called with a SessionEntry")

    async def answer(self, admission: Admission, request: Request) -> HTTPAnswer:
        asked = _Asked.read(request)
        whose = self._whose(asked, admission.login.principal)
        entries = await self.sessions.list(whose.identity, whose.issuer or None)
        if whose.administrator is None:  # without an issuer, or with an empty one, all were listed
            entries = [entry for entry in entries if entry.issuer == whose.issuer]
        fingerprint = admission.login.session.fingerprint
        current = {e.id for e in entries if e.fingerprint == fingerprint is not None}
        if request.method == "DELETE":
            ending = asked.unwanted(entries, current)
            if ending is not None:
                await self._end(ending)
                admission.tell(
                    SessionsEnded,
                    identity=whose.identity,
                    issuer=whose.issuer,
                    administrator=whose.administrator,
                    ended=len(ending),
                )
                return json_answer(200, {"ended": len(ending)})
            answer = json_answer(404, {"error": "session_not_found"})
        else:
            shown = []
            for number, entry in enumerate(entries, 1):
                about = {name: getattr(entry, name) for name in _FIELDS}
                shown.append({**about, "current": entry.id in current})
                if number % _AT_ONCE == 0:
                    await checkpoint()
            content = {"user": whose.identity, "issuer": whose.issuer, "sessions": shown}
            answer = json_answer(200, content)
            if request.method == "HEAD":  # not every server leaves the body out by itself
                answer = (*answer[:2], b"")
        if not admission.is_inside:  # else the instance further out has told it
            admission.tell(Admitted)
        return answer

    def _whose(self, asked: _Asked, principal: Principal) -> _Whose:
        """Whose sockets it is about.

        Raises:
            Denied: with `Reason.FORBIDDEN`, where the principal may not ask for them.
        """
        if asked.user is None:
            return _Whose(principal.identity, principal.issuer)
        if self.admin_scope is None:
            raise Denied(Reason.FORBIDDEN, "there is no admin_scope, so nobody may ask for others")
        check_scopes(frozenset([self.admin_scope]), principal)
        return _Whose(asked.user, asked.issuer, principal.identity)

    async def _end(self, ending: Sequence[SessionEntry]) -> None:
        if self.on_end is not None:
            with FailsClosed(self.on_end):
                for entry in ending:
                    await awaitable("on_end", self.on_end(entry))
        await self.sessions.end_these([entry.id for entry in ending])


class _Whose(NamedTuple):
    """Whose sockets a request is about.

    Attributes:
        identity: as in a principal.
        issuer: as in a principal.
        administrator: the identity of who asks, for somebody else's.
    """

    identity: str
    issuer: str | None
    administrator: str | None = None


class _Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        name: the last segment of its path: the id of a socket, perhaps.
        keep: the ids of those that are to stay, and `current`.
        user: the identity of whose they are; None for one's own.
        issuer: the issuer of that user's logins; None for all.
    """

    name: str
    keep: frozenset[str]
    user: str | None
    issuer: str | None

    @classmethod
    def read(cls, request: Request) -> _Asked:
        """What it asks for. No parameter is ignored: whoever misspells what to keep would lose it.

        Raises:
            Unreadable: it has a parameter that means nothing here.
        """
        query = request.query_params
        known = ["user", "issuer", *(["keep"] if request.method == "DELETE" else [])]
        if not set(query) <= set(known):
            raise _misunderstood(f"{request.method} takes only {', '.join(known)} in its query")
        if not all(value for _, value in query.multi_items()):
            raise _misunderstood("a parameter of the query is empty")
        if any(len(query.getlist(name)) > 1 for name in ("user", "issuer")):
            raise _misunderstood("user and issuer can be given only once")
        if "issuer" in query and "user" not in query:
            raise _misunderstood("issuer is given without user")
        name = request.scope["path"].rstrip("/").rpartition("/")[2]
        keep = frozenset(query.getlist("keep"))
        return cls(name, keep, query.get("user"), query.get("issuer"))

    def unwanted(
        self, entries: Sequence[SessionEntry], current: Collection[str]
    ) -> list[SessionEntry] | None:
        """Which are to be ended; None where the request names one that there isn't.

        Args:
            entries: those that there are.
            current: the ids of those that are current.
        """
        known = {entry.id for entry in entries}
        one = [entry for entry in entries if entry.id == self.name]
        if not self.keep:
            return one or None
        if one or _IS_AN_ID(self.name):  # of a socket that may have closed by itself meanwhile
            raise _misunderstood("the path names a session to end, and the query one to keep")
        named = self.keep - {_CURRENT}
        if not named <= known:
            return None
        kept = named.union(current if _CURRENT in self.keep else ())
        return [entry for entry in entries if entry.id not in kept]


def _misunderstood(why: str) -> Unreadable:
    return Unreadable(400, why, told=True)
