"""Checks of the headers of requests to other servers. No message has a value of one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from asgi_wsauth.options.error import ConfigurationError, kind_of, shown
from asgi_wsauth.options.functions import check_callable

__all__ = ["HTTP_TOKEN", "TOKEN_CHARACTER", "HeaderValue", "check_headers", "header_value"]

HeaderValue: TypeAlias = "str | Callable[[], str]"
"""A value, or a function that returns the current one."""

TOKEN_CHARACTER = r"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # RFC 9110 section 5.6.2
HTTP_TOKEN = re.compile(f"{TOKEN_CHARACTER}+")
"""The name of a header, a cookie, a scheme or a subprotocol."""

_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")  # section 5.5


def check_headers(option: str, headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """The headers of a request, by their names.

    Raises:
        ConfigurationError: they are none.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(
            f"{option} must be a mapping of names to values, for example "
            f'{{"authorization": "Bearer ..."}}, got {kind_of(headers)}'
        )
    for name, value in headers.items():
        if not isinstance(name, str) or not HTTP_TOKEN.fullmatch(name):
            raise ConfigurationError(f"{option} must be named as headers are, got {shown(name)}")
        if callable(value):
            check_callable(f"{option}: {name}", value, takes=0, is_async=False)
        else:
            _check_value(f"{option}: {name}", value)
    if len({name.lower() for name in headers}) < len(headers):
        raise ConfigurationError(f"{option} must have each name once, whatever its case")
    return dict(headers)


def header_value(name: str, value: HeaderValue) -> str:
    """What is to be sent now.

    Raises:
        ConfigurationError: a function returned what can't be sent.
        Exception: it raised that.
    """
    return _check_value(f"header {name}", value()) if callable(value) else value


def _check_value(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{what} must be a string, got {kind_of(value)}")
    if not _VALUE.fullmatch(value):
        raise ConfigurationError(
            f"{what} must be visible ASCII, without a newline or a space at either end; if it "
            "comes from a file, write .strip() after what reads it"
        )
    return value
