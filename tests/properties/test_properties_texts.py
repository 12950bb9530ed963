"""Any text: which an app's client would read as the guard's, and what is left of a credential."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import examples

from asgi_wsauth.connection.refresh_messages import RefreshMessages
from asgi_wsauth.redaction import HIDDEN, scrubbed

pytestmark = pytest.mark.slow

TELL = "auth.refresh"
DUE = '{"type": "auth.refresh.due", "expires_at": 1790000000.0}'


def imitates(content: str | bytes) -> bool:
    kind = "text" if isinstance(content, str) else "bytes"
    return RefreshMessages(TELL, 8192).is_imitated_by({"type": "websocket.send", kind: content})


def brought(text: str, name: str) -> str | None:
    return RefreshMessages(name, 8192).token_in({"type": "websocket.receive", "text": text})


def escaped(text: str, digits: str = "04x") -> str:
    return "".join(f"\\u{ord(char):{digits}}" for char in text)


class Pairs(list[Any]):
    """The members of an object, in their order."""


def believed(text: str) -> bool:
    """Whether some parser takes a text for the guard's: one keeps the first of several members of
    one name, another the last."""
    try:
        value = json.loads(text, object_pairs_hook=Pairs)
    except ValueError:
        return False
    if not isinstance(value, Pairs):
        return False
    return any(k == "type" and v in (f"{TELL}.due", f"{TELL}.ok") for k, v in value)


@st.composite
def written(draw: st.DrawFn) -> str:
    """JSON in a handwriting of its own."""

    def word(text: str) -> str:
        forms = [(c, escaped(c), escaped(c, "04X")) for c in text]
        return '"' + "".join(draw(st.sampled_from(form)) for form in forms) + '"'

    def space() -> str:
        return draw(st.sampled_from(["", " ", "\n\t", "\r "]))

    def value(depth: int) -> str:
        kind = draw(st.integers(0, 5 if depth < 3 else 3))
        if kind < 4:
            texts = [f"{TELL}.due", f"{TELL}.ok", TELL, "due", "type"]
            return [word(draw(st.sampled_from(texts))), "1e5", "null", '"é\\n"'][kind]
        if kind == 4:
            return "[" + ",".join(value(depth + 1) for _ in range(draw(st.integers(0, 2)))) + "]"
        return thing(depth + 1)

    def thing(depth: int) -> str:
        members = []
        for _ in range(draw(st.integers(0, 3))):
            key = word(draw(st.sampled_from(["type", "type", "expires_at", "a"])))
            members.append(f"{space()}{key}{space()}:{space()}{value(depth)}{space()}")
        return "{" + ",".join(members) + "}"

    cut = draw(st.sampled_from([0, 0, 0, 1]))
    return f"{space()}{thing(0)}{space()}"[cut:]


@examples(300)
@given(written())
@example('{"type":"auth.refresh.due"}')
@example('{"type":{"type":"auth.refresh.due"}}')
def test_whatever_the_handwriting_a_parser_and_the_guard_agree(text: str) -> None:
    assert imitates(text) == imitates(text.encode()) == believed(text)


@examples(200)
@given(st.binary(max_size=50), st.text(max_size=30))
def test_nothing_that_an_app_sends_raises(data: bytes, text: str) -> None:
    for content in (data, text, data + DUE.encode(), text + DUE, DUE.encode("utf-16") + data):
        assert imitates(content) in (True, False)


@examples(100)
@given(st.sampled_from([TELL, "auth/refresh", "a/", "r"]), st.data())
def test_every_handwriting_of_a_clients_message_is_read(name: str, data: st.DataObject) -> None:
    def write(text: str) -> str:
        return "".join(data.draw(st.sampled_from([char, escaped(char)])) for char in text)

    text = f'{{"{write("type")}":"{write(name)}","{write("token")}":"{write("new")}"}}'
    assert brought(text, name) == "new"


@examples(100)
@given(st.text("a%2e.", max_size=12), st.text("a%2e.", min_size=1, max_size=3))
def test_what_is_left_has_it_in_no_form(text: str, value: str) -> None:
    parts = scrubbed(text, [value]).split(HIDDEN)
    assert not any(value in part for part in parts)
    assert "".join(parts) in text or len(parts) > 1
