"""What hypothesis makes of handshakes, tokens and answers, and how many examples there are.

    WSAUTH_PROPERTIES=long pytest tests/properties

runs thousands of times as many, different ones each time; `medium` twenty times as many. Without it
they are few. But for the long form they are always the same.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_COMMON: dict[str, Any] = {
    "database": None,
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "print_blob": True,
}
settings.register_profile("short", **_COMMON, derandomize=True, max_examples=5)
settings.register_profile("medium", **_COMMON, derandomize=True, max_examples=100)
settings.register_profile("long", **_COMMON, derandomize=False, max_examples=10_000)
_PROFILE = settings.get_profile(os.environ.get("WSAUTH_PROPERTIES", "short"))


def examples(number: int, **more: Any) -> Callable[[Any], Any]:
    """Settings of a test with so many examples in the medium form."""
    most = max(5, number * _PROFILE.max_examples // 100)
    test_settings: Callable[[Any], Any] = settings(_PROFILE, max_examples=most, **more)
    return test_settings


# Text and bytes

_ODD_CHARACTERS = [
    "\x00",
    "\r\n",
    "\n",
    "\t",
    "\x85",
    "\xa0",
    "\u2028",
    "é",
    "％",
    "Ａ",
    "\\",
    "'",
    '"',
]
_ODD_CHARACTERS += ["\x1b[2J", "\u202e", "\ud800", "\udfff", "%", "+", "&", "=", ";", ",", " "]
_ESCAPES = ["%00", "%2e", "%2F", "%c0%ae", "%25"]
HOSTILE = st.sampled_from([*_ODD_CHARACTERS, *_ESCAPES])
WORDS = st.text(st.characters(codec="latin-1"), max_size=8) | HOSTILE
LATIN = WORDS.map(lambda text: text.encode("latin-1", "replace"))
SEGMENT = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", max_size=12)


# JSON

NUMBERS = (
    st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.sampled_from([10**30, -(10**30), 10**400, 2**63, 1e308, -0.0, True, False])
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=6) | HOSTILE
ANY_JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
NESTED = st.builds(
    lambda depth, pair: pair[0] * depth + pair[1] * depth,
    st.sampled_from([1, 50, 400, 900, 950, 980, 1000, 1100, 3000, 20_000]),
    st.sampled_from([("[", "]"), ('{"a":', "}")]),
)
"""JSON text whose depth is the trouble; one half of it is not JSON."""


def json_texts(members: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[str]:
    """Objects with some of these members, others, the same twice, too deep, or no object at all."""
    known = st.sampled_from(sorted(members)).flatmap(
        lambda name: st.tuples(st.just(name), members[name].map(json.dumps))
    )
    other = st.tuples(st.text(max_size=5), ANY_JSON.map(json.dumps))
    deep = st.tuples(st.sampled_from(sorted(members)), NESTED)
    objects = st.lists(known | known | known | other | deep, max_size=6).map(_object)
    return objects | objects | objects | ANY_JSON.map(json.dumps) | NESTED | st.text(max_size=8)


def _object(pairs: list[tuple[str, str]]) -> str:
    """By hand, because a dict can't have a name twice."""
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in pairs) + "}"


def base64url(raw: bytes | str) -> str:
    data = raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def mutated(text: str) -> st.SearchStrategy[str]:
    """The text with one place changed, taken out, doubled, or cut off there."""
    places = st.integers(0, max(len(text) - 1, 0))
    others = st.characters(min_codepoint=0x21, max_codepoint=0x7E) | HOSTILE
    return st.one_of(
        st.builds(lambda at, other: text[:at] + other + text[at + 1 :], places, others),
        st.builds(lambda at, other: text[:at] + other + text[at:], places, others),
        places.map(lambda at: text[:at] + text[at + 1 :]),
        places.map(lambda at: text[:at]),
        places.map(lambda at: text[at:]),
        st.sampled_from(
            [text * 2, text.swapcase(), f" {text}", f"{text} ", f"{text}=", f"{text}."]
        ),
    ).map(lambda other: f"{text}." if other == text else other)  # no filter: texts may be random
