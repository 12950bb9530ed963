"""What Redis is asked about sessions, and what it answers. The exchanges are `RedisStore`'s."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from asgi_wsauth.stores.protocols import Notice, RenewedSessions, SessionKey
from asgi_wsauth.stores.redis_client import Command, digest_of, ms, script
from asgi_wsauth.stores.redis_notices import written

__all__ = ["SessionCommands", "listed", "renewed"]


class SessionCommands:
    """The commands for sessions. All are such that they may be sent twice.

    Args:
        prefix: what each key begins with.
        lease: seconds for which a session is listed.
        is_cluster: whether keys may be at several nodes.
    """

    def __init__(self, prefix: str, lease: float, *, is_cluster: bool) -> None:
        self._prefix = prefix
        self._lease = ms(lease)
        self._is_cluster = is_cluster

    def put(self, sessions: Sequence[tuple[SessionKey, str]]) -> list[Command]:
        """List them."""
        return [
            script("put_session", self._keys(owner), _json(id), _json(record), self._lease)
            for (owner, id), record in sessions
        ]

    def renew(self, keys: Sequence[SessionKey]) -> list[Command]:
        """List them for another lease, as far as they are known, and look which of them were
        ended. See `renewed`."""
        renewals = [
            script("renew_session", self._keys(owner), _json(id), self._lease) for owner, id in keys
        ]
        return [*renewals, *[("GET", self._ended_key(id)) for _, id in keys]]

    def ids(self, owner: str) -> Command:
        """The ids of all that an owner has, each as JSON."""
        return script("get_sessions", self._keys(owner))

    def get(self, owner: str, ids: Sequence[str]) -> list[Command]:
        """What is kept of some of them, and how they were ended. See `listed`."""
        kept, _ = self._keys(owner)
        keys = [self._ended_key(json.loads(id)) for id in ids]
        if self._is_cluster:
            return [("HMGET", kept, *ids), *[("GET", key) for key in keys]]
        return [("HMGET", kept, *ids), ("MGET", *keys)]  # as many commands, it takes much longer

    def drop(self, key: SessionKey) -> list[Command]:
        """Take it off the list. How it was ended need not be known for long any more; but it is for
        as long as a list may still have it."""
        owner, id = key
        dropping = script("drop_session", self._keys(owner), _json(id))
        return [dropping, ("PEXPIRE", self._ended_key(id), self._lease)]

    def end(self, ids: Sequence[str], how: str, ttl: float, channel: str) -> list[Command]:
        """Note that they are ended, and tell of it."""
        said, left = _json(how), ms(ttl)
        told = [(self._ended_key(id), written(Notice(("ended", id), 0.0))) for id in ids]
        return [script("end_session", [key], said, left, channel, text) for key, text in told]

    def _ended_key(self, id: str) -> str:
        return f"{self._prefix}:ended:{digest_of(id)}"

    def _keys(self, owner: str) -> list[str]:
        owned = digest_of(owner)
        return [f"{self._prefix}:sessions:{{{owned}}}:{part}" for part in ("kept", "lapse")]


def renewed(keys: Sequence[SessionKey], answers: Sequence[Any]) -> RenewedSessions:
    """What Redis has said to `SessionCommands.renew`."""
    known, ended = answers[: len(keys)], answers[len(keys) :]
    found = list(zip(keys, known, ended, strict=True))
    return RenewedSessions(
        [key for key, is_known, how in found if how is None and not is_known],
        [(key[1], json.loads(how)) for key, _, how in found if how is not None],
    )


def listed(ids: Sequence[str], answers: Sequence[Any]) -> list[tuple[str, str]]:
    """What Redis has said to `SessionCommands.get`: those that are there and were not ended, and
    what was kept."""
    records, *ended = answers
    if ended and isinstance(ended[0], list):
        (ended,) = ended
    return [
        (json.loads(id), json.loads(kept))
        for id, kept, how in zip(ids, records, ended, strict=True)
        if kept is not None and how is None
    ]


def _json(text: str) -> str:
    return json.dumps(text)  # text of any kind survives in it, whatever the client decodes
