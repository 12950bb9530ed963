"""Secrets on the command line: they come from the environment, a file or stdin, and never from the
arguments, which every user of the machine can read."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TextIO

from asgi_wsauth.options import ConfigurationError
from asgi_wsauth.redaction import HIDDEN, hidden, scrubbed

__all__ = ["Discreet", "Parser", "cleaner", "read_secret", "secret_arguments", "visible", "ways"]


class Parser(argparse.ArgumentParser):
    """A parser whose errors don't repeat a credential that was typed in the wrong place."""

    def error(self, message: str) -> NoReturn:
        super().error(hidden(message))


def visible(what: str) -> str:
    """What somebody is told who puts a secret into the arguments."""
    return (
        "every user of this machine can read the arguments, and they stay in the shell's "
        f"history; {ways(what)}"
    )


def ways(what: str) -> str:
    """How to pass a secret."""
    return f"use --{what}-env NAME, or --{what}-file FILE (- for stdin)"


class _Visible(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: Any, **more: Any) -> NoReturn:
        parser.error(visible(self.dest))


def secret_arguments(
    parser: argparse.ArgumentParser, what: str, text: str, *, required: bool = False
) -> None:
    """Add `--WHAT-env` and `--WHAT-file`."""
    group = parser.add_argument_group(text).add_mutually_exclusive_group(required=required)
    group.add_argument(
        f"--{what}-env", metavar="NAME", help="read it from this environment variable"
    )
    group.add_argument(f"--{what}-file", metavar="FILE", help="read it from this file; - for stdin")
    group.add_argument(f"--{what}", action=_Visible, help=argparse.SUPPRESS)


def read_secret(args: argparse.Namespace, what: str, *, quotes: bool = True) -> str | None:
    """The secret that --WHAT-env or --WHAT-file names; None if neither is given.

    Args:
        args: the arguments.
        what: the secret.
        quotes: whether an error may repeat the name, which may be the secret itself.

    Raises:
        ConfigurationError: it is empty, or can't be read.
    """
    name, file = (getattr(args, f"{what}_{place}") for place in ("env", "file"))
    if file is None and name is None:
        return None
    option, given = (f"--{what}-env", name) if file is None else (f"--{what}-file", file)
    place = f"{option} {given}" if quotes else option
    text = os.environ.get(name, "") if file is None else _read(file, place)
    if not text.strip():
        if file == "-":
            raise ConfigurationError(f"stdin is empty: {ways(what)}")
        raise ConfigurationError(f"{place}: {'empty' if file else 'not set, or empty'}")
    return text.strip()


def _read(file: str, place: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not a text file"
        raise ConfigurationError(f"{place}: {why}") from None


_LENGTH = 8  # characters of a secret that may stand nowhere
_WORD = re.compile(rf"[\w+/=~-]{{{_LENGTH},}}", re.ASCII)


def cleaner(secret: str) -> Callable[[str], str]:
    """What takes a secret out of texts: the whole of it, and every word with a piece of it. One
    that is shorter than a piece goes only where it is a word. Never empty."""
    if len(secret) < _LENGTH:
        short = re.compile(rf"(?<!\w){re.escape(secret)}(?!\w)")
        return lambda text: short.sub(HIDDEN, text)
    pieces = {
        part[start : start + _LENGTH]
        for part in secret.split(".")
        for start in range(len(part) - _LENGTH + 1)
    }

    def without(word: re.Match[str]) -> str:
        text = word[0]
        found = (text[start : start + _LENGTH] in pieces for start in range(len(text)))
        return HIDDEN if any(found) else text

    return lambda text: _WORD.sub(without, scrubbed(text, [secret]))


class Discreet:
    """A stream for text, like `stream`, but what is written to it goes through `clean` first."""

    def __init__(self, stream: TextIO, clean: Callable[[str], str]) -> None:
        self._stream = stream
        self._clean = clean

    def write(self, text: str) -> int:
        self._stream.write(self._clean(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
