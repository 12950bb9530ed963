"""docs/reference/: every name that can be imported has its place, and only one."""

from __future__ import annotations

import re
from collections import Counter
from importlib import import_module

import django_site  # noqa: F401 - sets Django up
from pages import PAGES

import asgi_wsauth

# Which names of these modules are documented at the name they have there: all that `__all__` of
# the package doesn't have.
MODULES = [
    "asgi_wsauth.redis",
    "asgi_wsauth.testing",
    "asgi_wsauth.denial",
    "asgi_wsauth.redaction",
    "asgi_wsauth.shutdown",
    *(
        f"asgi_wsauth.contrib.{name}"
        for name in ("database_token", "django", "opentelemetry", "prometheus", "starlette")
    ),
]

# What serves the middlewares, and nobody else.
INSIDE = {
    "asgi_wsauth.denial": {
        "FAULTS",
        "HTTPAnswer",
        "check_close_codes",
        "close_code",
        "http_refusal",
        "json_answer",
    },
    "asgi_wsauth.redaction": {"HIDDEN", "hidden", "scrubbed"},
}


def test_every_name_is_in_the_reference_once() -> None:
    pages = "".join(text for page, text in PAGES.items() if page.startswith("docs/reference/"))
    documented = re.findall(r"^\.\. auto(?:class|data|exception|function):: ([\w.]+)$", pages, re.M)
    expected = Counter(f"asgi_wsauth.{name}" for name in asgi_wsauth.__all__)
    for module in MODULES:
        names = set(import_module(module).__all__) - INSIDE.get(module, set())
        expected.update(f"{module}.{name}" for name in names - set(asgi_wsauth.__all__))
    assert Counter(documented) == expected


def test_every_command_is_on_the_page_of_the_command_line() -> None:
    helped = re.findall(r"^```\{help\} ([\w-]+)$", PAGES["docs/reference/command-line.md"], re.M)
    described = re.findall(
        r"^    ([\w-]+) +\S", import_module("asgi_wsauth.cli").__doc__ or "", re.M
    )
    assert helped == described


def test_every_class_with_options_is_on_the_page_of_all_options() -> None:
    listed = " ".join(
        re.findall(r"^```\{options\} (.+)$", PAGES["docs/reference/options.md"], re.M)
    )
    with_options = set()
    for name in re.findall(r"^\.\. autoclass:: ([\w.]+)$", "".join(PAGES.values()), re.M):
        module, _, short = name.rpartition(".")
        init = vars(getattr(import_module(module), short)).get("__init__")
        with_defaults = {*(getattr(init, "__kwdefaults__", None) or {})} - {"clock"}
        if with_defaults or getattr(init, "__defaults__", None):
            with_options.add(short)
    values = {name for name in with_options if issubclass(getattr(asgi_wsauth, name, int), VALUES)}
    assert set(listed.split()) == with_options - values


VALUES = (
    asgi_wsauth.Credential,
    asgi_wsauth.Principal,
    asgi_wsauth.Event,
    asgi_wsauth.SessionEntry,
)
"""What has arguments, and no options."""
