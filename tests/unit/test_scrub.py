"""A known credential in a text: cut out in whatever form, and nothing else is."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from cases import cases

from asgi_wsauth.redaction import HIDDEN, scrubbed

OPAQUE = "op4que.tok-en_~x"
ODD = "a%2eb+c/d=&'\"\\é"


def escaped(value: str, times: int = 1, every: int = 1) -> str:
    """As clients' libraries escape what nobody needs escaped."""
    for _ in range(times):
        value = "".join(
            f"%{byte:02x}" if n % every == 0 else chr(byte) for n, byte in enumerate(value.encode())
        )
    return value


@cases("value", [OPAQUE, ODD, "%", "a%"])
@cases(
    "form",
    [
        lambda value: value,
        lambda value: repr(value)[1:-1],
        lambda value: json.dumps(value)[1:-1],
        quote,
        quote_plus,
        lambda value: quote(value, safe=""),
    ],
)
def test_every_way_to_write_it_down(form: object, value: str) -> None:
    written = form(value)  # type: ignore[operator]
    assert scrubbed(f"<{written}>", [value]) == f"<{HIDDEN}>"


@cases("times", [1, 2, 3])
@cases("every", [1, 2, 5])
def test_whichever_characters_are_escaped_and_however_often(times: int, every: int) -> None:
    written = escaped(OPAQUE, times, every)
    text = f"GET /ws?token={written}&a=%20 100% {written}"
    assert scrubbed(text, [OPAQUE]) == f"GET /ws?token={HIDDEN}&a=%20 100% {HIDDEN}"


@cases("text", ["", "nothing", "100% %zz %", "%2e%2e/%41", "op4que.tok-en", "[redacted]"])
def test_all_else_stays(text: str) -> None:
    assert scrubbed(text, [OPAQUE]) == text
    assert scrubbed(text, []) == text
    assert scrubbed(text, [""]) == text


def test_the_longest_goes_first_and_no_part_of_a_mark_is_taken_for_one() -> None:
    assert scrubbed("abcd abc red", ["abc", "abcd", "red", "e"]) == " ".join([HIDDEN] * 3)


@pytest.mark.slow
def test_a_hostile_text_takes_linear_time() -> None:
    """Quadratic work on one of these would hang."""
    for piece in ("%", "%25", "%41", "%2", "a%41"):
        assert len(scrubbed(piece * 20_000, ["A" * 50, OPAQUE])) <= 80_000
