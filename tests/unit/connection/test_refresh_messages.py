"""The messages of a refresh: what the guard says, and which of an app's would pass for that. Any
text that there is: test_properties_texts.py."""

from __future__ import annotations

import json
import sys
from typing import Any

from cases import cases

from asgi_wsauth.connection.refresh_messages import RefreshMessages

TELL = "auth.refresh"
DUE = '{"type": "auth.refresh.due", "expires_at": 1790000000.0}'


def messages(name: str = TELL) -> RefreshMessages:
    return RefreshMessages(name, 8192)


def imitates(content: str | bytes | bytearray, name: str = TELL) -> bool:
    kind = "text" if isinstance(content, str) else "bytes"
    return messages(name).is_imitated_by({"type": "websocket.send", kind: content})


def escaped(text: str, digits: str = "04x") -> str:
    return "".join(f"\\u{ord(char):{digits}}" for char in text)


def test_the_guard_says_it_in_exactly_this_form() -> None:
    """wsauth.js, and clients like it, believe no other."""
    refresh = messages()
    assert refresh.due(1790000000.0) == {"type": "websocket.send", "text": DUE}
    ok = '{"type": "auth.refresh.ok", "expires_at": 1790000300.5}'
    assert refresh.ok(1790000300.5) == {"type": "websocket.send", "text": ok}
    assert json.loads(refresh.ok(None)["text"]) == {"type": f"{TELL}.ok", "expires_at": None}


IMITATIONS = [
    DUE,
    '{"type": "auth.refresh.ok", "expires_at": null}',
    '{"type":"auth.refresh.due"}',
    ' \n\t\r{ "type" \n:\t"auth.refresh.ok" } ',
    '{"expires_at": 1, "type": "auth.refresh.due"}',
    '{"a": {"b": [{}]}, "type": "auth.refresh.due", "c": ["auth"]}',
    f'{{"type": "{escaped(TELL + ".due")}"}}',
    f'{{"{escaped("type", "04X")}": "{escaped(TELL + ".ok", "04X")}"}}',
    '{"t\\u0079pe": "auth\\u002Erefresh\\u002edue"}',
    '{"type": "auth.refresh\\u002edue"}',
    '{"type": "auth.refresh.d\\u0075e"}',
    '{"type": "auth.refresh.due", "type": "chat"}',
    '{"type": "chat", "type": "auth.refresh.due"}',
    '{"type": "auth.refresh.due", "n": ' + "9" * 5000 + "}",
    '{"type": "auth.refresh.due", "n": -1.5e400, "m": NaN}',
    '{"type": "auth.refresh.due", "tab": "\t"}',
    '{"type": "auth.refresh.due", "half": "\\ud800"}',
    '{"type": "auth.refresh.due", "deep": ' + "[" * 100_000 + "]" * 100_000 + "}",
    f"\ufeff{DUE}",
    '{"type": "auth.refresh.due", "long": "' + "x" * 1_000_000 + '"}',
]

OTHERS = [
    "",
    "hello",
    "auth.refresh.due",
    f"did you see {DUE}?",
    f"{DUE} {DUE}",
    DUE[:-1],
    f"[{DUE}]",
    f'{{"from": "bob", "data": {DUE}}}',
    f'{{"messages": [{DUE}, {DUE}], "type": "history"}}',
    json.dumps({"type": "chat", "text": DUE}),
    json.dumps(DUE),
    json.dumps({DUE: "type"}),
    '{"type": "auth.refresh", "token": "b"}',
    '{"type": "auth.refresh.due2"}',
    '{"type": "auth.refresh.do"}',
    '{"type": "xauth.refresh.due"}',
    '{"type": "authXrefresh.due"}',
    '{"type": ["auth.refresh.due"]}',
    '{"type": {"type": "auth.refresh.due"}}',
    '{"typ": "auth.refresh.due"}',
    '{"type": "AUTH.REFRESH.DUE"}',
    "{'type': 'auth.refresh.due'}",
    '{"type": "caf\\u00e9"}',
    '{"type": "\\u003cb\\u003e"}',
    '{"type": "auth.refresh.due\\u0000"}',
]


@cases("content", IMITATIONS, ids=range(len(IMITATIONS)))
def test_what_a_client_would_read_as_the_guards_is_an_imitation(content: str) -> None:
    assert imitates(content)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32-le", "utf-32"):
        data = content.removeprefix("\ufeff").encode(encoding, "surrogatepass")
        assert imitates(data), encoding
        assert imitates(bytearray(data))


@cases("content", OTHERS, ids=range(len(OTHERS)))
def test_anything_else_is_the_apps(content: str) -> None:
    assert not imitates(content)
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert not imitates(content.encode(encoding))


def test_bytes_that_are_no_utf_8_are_read_as_browsers_read_them() -> None:
    assert imitates(b'{"type": "auth.refresh.due", "x": "\xff\xfe\x80"}')
    assert not imitates(b'{"type": "auth.\xffrefresh.due"}')
    assert not imitates(b"\x00\x01\x02\x03 auth.refresh.due")


@cases("content", [{}, {"text": None, "bytes": None}, {"text": 5, "bytes": "x"}, {"bytes": None}])
def test_what_has_no_content_is_left_to_the_server(content: dict[str, Any]) -> None:
    assert not messages().is_imitated_by({"type": "websocket.send", **content})


def test_a_message_with_both_is_looked_at_twice() -> None:
    both = {"type": "websocket.send", "text": "hello", "bytes": DUE.encode()}
    assert messages().is_imitated_by(both)
    assert messages().is_imitated_by({**both, "text": DUE, "bytes": b"hello"})


@cases("name", ["https://chat.example/refresh-1_a:b", "/", "a/", "//", "-", ":.:", "type", "0"])
def test_each_name_is_kept(name: str) -> None:
    told = {"type": f"{name}.due"}
    plain = json.dumps(told)
    assert imitates(plain, name)
    assert imitates(plain.replace("/", "\\/"), name)
    assert imitates(f'{{"type": "{escaped(name)}.ok"}}', name)
    assert not imitates(plain, f"{name}x")
    assert not imitates(json.dumps({"type": f"{name}due"}), name)


def test_what_is_in_the_way_of_a_hundred_thousand_messages_is_next_to_nothing() -> None:
    """No timing: a message without the word is never taken apart, nor searched."""
    refresh = messages()
    refresh._member = refresh._decoder = None  # type: ignore[assignment]
    for content in (
        "hello",
        json.dumps({"type": "chat", "text": "refresh.due \u20ac"}),
        "x" * 10**6,
    ):
        assert not refresh.is_imitated_by({"type": "websocket.send", "text": content})
        assert not refresh.is_imitated_by({"type": "websocket.send", "bytes": content.encode()})


def test_deep_nesting_is_no_way_round_in_any_python() -> None:
    """From 3.14 on, json takes some thousand levels; whichever it is, the answer is the same."""
    for depth in (10, 1000, sys.getrecursionlimit() * 3, 50_000):
        nested = "[" * depth + "]" * depth
        assert imitates(f'{{"type": "auth.refresh.due", "x": {nested}}}')


def brought(text: str, name: str = TELL) -> str | None:
    return messages(name).token_in({"type": "websocket.receive", "text": text})


@cases(
    "text",
    [
        '{"type": "auth/refresh", "token": "new"}',
        '{"type":"auth\\/refresh","token":"new"}',  # PHP's json_encode
        ' \n{"token" : "new", "type"\t:\r"auth/refr\\u0065sh"}',
        '{"token": "new", "t\\u0079pe": "auth\\u002Frefresh"}',
        f'{{"{escaped("type")}": "{escaped("auth/refresh")}", "token": "{escaped("new")}"}}',
    ],
)
def test_a_client_may_write_its_message_in_any_way_that_json_has(text: str) -> None:
    assert brought(text, "auth/refresh") == "new"
    assert brought(text) is None


@cases(
    "text",
    [
        json.dumps({"type": TELL, "token": "T" * 9300}),
        json.dumps({"token": "T" * 9300, "type": TELL}),
        json.dumps({"type": TELL, "token": "T" * 1_000_000}),
        json.dumps({"token": "T" * 1_000_000, "type": TELL}),
        " " * 200 + '{"t\\u0079pe":"auth\\u002erefresh","token":"' + "T" * 9300 + '"}',
        json.dumps({"type": TELL, "token": "good", "more": "x" * 9300}),
        '{"type": "auth.refresh", "token": ' + "[" * 9300,
    ],
)
def test_a_new_credential_that_is_far_too_long_is_a_bad_one_and_never_the_apps(text: str) -> None:
    assert brought(text) == ""


@cases(
    "text",
    [
        "x" * 10_000 + TELL,
        json.dumps({"type": "chat", "text": TELL + "x" * 10_000}),
        json.dumps({"type": "chat", "text": json.dumps({"type": TELL}) + "x" * 10_000}),
        json.dumps({"type": TELL + "x" * 10_000}),
        json.dumps([{"type": TELL, "text": "x" * 10_000}]),
        json.dumps({"a": "x" * 10_000, "in": {"type": TELL}, "b": "x" * 10_000}),
        json.dumps({"type": f"{TELL}.due", "text": "x" * 10_000}),
        '"type": "auth.refresh"' + "x" * 10_000,
        json.dumps({"type": "chat", "text": "é"}),
        json.dumps({"type": "chat", "in": {"type": TELL}}),
        '{"type": "auth.refresh", "type": "chat"}',
        '{"type": "auth.refresh"',
    ],
)
def test_a_clients_other_messages_are_the_apps(text: str) -> None:
    assert brought(text) is None


def test_a_new_credential_may_be_as_long_as_any() -> None:
    assert brought(json.dumps({"token": "T" * 8192, "more": "x" * 900, "type": TELL})) == "T" * 8192


def test_a_message_without_a_token_brings_a_bad_one() -> None:
    assert brought('{"type": "auth.refresh"}') == ""
    assert brought('{"type": "auth.refresh", "token": 1}') == ""
