"""The messages with which a client renews its credential on an open socket.

    client  {"type": "auth.refresh", "token": "..."}
    guard   {"type": "auth.refresh.due", "expires_at": ...}
    guard   {"type": "auth.refresh.ok", "expires_at": ...}

Only the guard may send the last two: in a chat that relays what strangers write, they could
otherwise tell other clients when to fetch a token, or how long they may stay.
"""

from __future__ import annotations

import json
import re

from starlette.types import Message

from asgi_wsauth.denial import Denied
from asgi_wsauth.events import logger
from asgi_wsauth.options import ConfigurationError, shown
from asgi_wsauth.sources.first_message import token_in

__all__ = ["RefreshMessages", "check_refresh_message"]

_WORDS = ("due", "ok")

_TYPE = re.compile(r"[\w.:/-]+", re.ASCII)

_SPACE = r"[ \t\n\r]*"  # RFC 8259 section 2
_ESCAPED = "\\u00"  # what every escape of an ASCII character begins with (section 7), but for "\/"
_OBJECT = re.compile(_SPACE + "{")
_TAIL = 1024  # characters
_OURS = object()


class RefreshMessages:
    """Reads the client's, writes the guard's, and knows an imitation of them.

    Args:
        name: the `type` of the client's message.
        max_token_size: characters that a credential may have.
    """

    def __init__(self, name: str, max_token_size: int) -> None:
        self._name = name
        self._longest = max_token_size + 1024
        self._types = tuple(f"{name}.{word}" for word in _WORDS)
        # What stands in each imitation that escapes nothing, or nothing but slashes.
        self._part = name.rpartition("/")[2]
        self._mark = f"{self._part}."
        self._mark_in_bytes = self._mark.encode()
        self._asked = _member(name)
        self._member = _member(*self._types)
        # No number is too long for it, as none is for JavaScript; and it takes control characters.
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._look_at, parse_int=str, strict=False
        )
        self._warned = False

    def token_in(self, message: Message) -> str | None:
        """The credential that a message of the client's brings, however it is written; None for any
        other message, and "" where there is none that could be good.

        A message too long for a valid credential is judged by its two ends: it counts if it is an
        object with that `type` there.
        """
        text = message.get("text")
        # As in next to no message; and each that has it is looked at before it is taken apart.
        if not text or (self._part not in text and _ESCAPED not in text):
            return None
        if len(text) > self._longest:
            ends = text[: self._longest], text[-_TAIL:]
            is_one = _OBJECT.match(text) is not None and any(map(self._asked.search, ends))
            return "" if is_one else None
        if not self._asked.search(text):
            return None
        try:
            return token_in(text, self._name)
        except Denied:
            return ""  # to be refused as any other credential that is none

    def due(self, expires_at: float | None) -> Message:
        """Says that a new credential is due."""
        return self._say("due", expires_at)

    def ok(self, expires_at: float | None) -> Message:
        """Says that the new credential was taken."""
        return self._say("ok", expires_at)

    def _say(self, word: str, expires_at: float | None) -> Message:
        told = {"type": f"{self._name}.{word}", "expires_at": expires_at}
        return {"type": "websocket.send", "text": json.dumps(told)}

    def is_imitated_by(self, message: Message) -> bool:
        """Whether a client could take a message of the app's for one of the guard's: its text, or
        its bytes, are a JSON object with that `type`, however it is written, the first or the last
        one of several. Such a message is not sent; the first one is warned of.
        """
        text = message.get("text")
        if (
            isinstance(text, str)
            and (self._mark in text or _ESCAPED in text)  # as in next to no message
            and self._is_ours(text)
        ):
            return True
        data = message.get("bytes")
        if data is None:  # as in most; asking for its type takes longer
            return False
        return isinstance(data, (bytes, bytearray)) and self._is_ours_in_bytes(data)

    def _is_ours_in_bytes(self, data: bytes | bytearray) -> bool:
        # UTF-16 and UTF-32, which a client in Python would read as well, begin with a zero or two.
        if self._mark_in_bytes in data or b"\\u00" in data or 0 in data[:4]:
            return self._is_ours(data.decode(json.detect_encoding(data), "replace"))
        return False

    def _is_ours(self, text: str) -> bool:
        if not self._member.search(text):
            return False
        try:
            found = self._decoder.decode(text.removeprefix("\ufeff")) is _OURS
        except ValueError:
            return False
        except RecursionError:  # nested more deeply than other parsers mind
            found = True
        if found:
            log = logger.debug if self._warned else logger.warning
            self._warned = True
            log("not sent: a message of the app's that says %s in the guard's place", self._types)
        return found

    def _look_at(self, members: list[tuple[str, object]]) -> object:
        """What takes the place of an object; only the outermost one's is looked at."""
        is_ours = any(key == "type" and value in self._types for key, value in members)
        return _OURS if is_ours else None


def _member(*types: str) -> re.Pattern[str]:
    """A pattern for the member of an object that says one of these types."""
    key, *values = map(_in_any_writing, ("type", *types))
    return re.compile(f'"{key}"{_SPACE}:{_SPACE}"(?:{"|".join(values)})"')


def _in_any_writing(text: str) -> str:
    """A pattern for all that JSON may make of ASCII characters (RFC 8259 section 7)."""

    def pattern(char: str) -> str:
        plain = r"\\?/" if char == "/" else re.escape(char)
        return rf"(?:{plain}|\\u00(?i:{ord(char):02x}))"

    return "".join(map(pattern, text))


def check_refresh_message(name: object, max_token_size: int) -> RefreshMessages | None:
    """The messages whose name this is, if it is one.

    Raises:
        ConfigurationError: it is none.
    """
    if name is None:
        return None
    if not (isinstance(name, str) and _TYPE.fullmatch(name)):
        raise ConfigurationError(
            f'refresh_message must be a name, for example "auth.refresh", got {shown(name)}'
        )
    return RefreshMessages(name, max_token_size)
