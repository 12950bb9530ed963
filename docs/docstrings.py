"""Reads docstrings: what they say of each argument. Needs nothing but Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any


def arguments(built: Any) -> dict[str, str]:
    """What the docstring of a class or function says of each argument, in its order."""
    found = re.search(r"^Args:\n((?:[ ]{4}.*\n|\n)+)", f"{inspect.getdoc(built)}\n", re.MULTILINE)
    entries = re.split(r"^ {4}(?=\w+:)", found[1] if found else "", flags=re.MULTILINE)[1:]
    split = (entry.split(":", 1) for entry in entries)
    return {name: " ".join(text.split()) for name, text in split}


def first_sentence(text: str) -> str:
    """The first sentence of a text, without its full stop."""
    return re.split(r"\. (?=[A-Z`*])|\.$", text, maxsplit=1)[0]


def options(built: Any) -> Iterator[tuple[inspect.Parameter, str]]:
    """The options of a class, those with a default, each with what its docstring says of it."""
    told = arguments(built)
    for parameter in inspect.signature(built).parameters.values():
        if parameter.default is not parameter.empty and parameter.name != "clock":
            yield parameter, told.get(parameter.name, "")


def required(built: Any) -> list[inspect.Parameter]:
    """The arguments of a class that have no default."""
    found = inspect.signature(built).parameters.values()
    return [parameter for parameter in found if parameter.default is parameter.empty]
