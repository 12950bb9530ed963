"""Whatever token `check-token` is given, its verdict is the verifier's, and no piece of it is
printed."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import ModuleType
from unittest.mock import patch

import pytest
from handshakes import authenticator, judge
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, mutated
from strict import run
from test_properties_tokens import CLAIMS, GOOD_CLAIMS, HEADERS, PLAIN, STRICT, objects, signed

from asgi_wsauth import Principal
from asgi_wsauth.cli import main

pytestmark = pytest.mark.slow

TOKENS = st.builds(signed, objects(HEADERS, {"alg": "HS256"}), objects(CLAIMS, GOOD_CLAIMS))


def checked(token: str) -> tuple[int, str]:
    """The exit code, and all that is printed."""
    chat = ModuleType("chat")
    chat.auth = authenticator(STRICT, PLAIN)  # type: ignore[attr-defined]
    out = io.StringIO()
    arguments = ["check-token", "chat:auth", "--token-env", "TOKEN"]
    with (
        patch.dict(sys.modules, chat=chat),
        patch.dict(os.environ, TOKEN=token),
        redirect_stdout(out),
        redirect_stderr(out),
    ):
        code = main(arguments)
    return code, out.getvalue()


async def decided(token: str) -> bool:
    for verifier in (STRICT, PLAIN):
        verdict = await judge(verifier, token)
        if verdict is not None:
            return isinstance(verdict, Principal)
    return False


def is_presentable(token: str) -> bool:
    """Whether it comes out of an environment variable as it is."""
    return token.isascii() and token.isprintable() and token == token.strip(" \"'") != ""


@examples(100)
@given(TOKENS | TOKENS.flatmap(mutated).filter(is_presentable))
def test_its_verdict_is_the_verifiers_and_no_piece_is_printed(token: str) -> None:
    code, told = checked(token)
    assert code == (0 if run(decided(token)) else 1)
    assert told.startswith("credential ") and "Traceback" not in told
    parts = token.split(".")
    pieces = (part[start : start + 8] for part in parts for start in range(len(part) - 7))
    assert [piece for piece in pieces if piece in told] == []
