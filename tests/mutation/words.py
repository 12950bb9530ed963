"""Which mutants change nothing but words for people, such as the message of an exception."""

from __future__ import annotations

import ast
import re
from typing import Any

__all__ = ["changes_words"]


def changes_words(source: str) -> set[str]:
    """The names of those functions in a module of mutmut's that differ from what they were made of
    by the text of a string of several words, or by that string being left out.

    What such words must say is a matter of single tests; those of an option's check are in
    `tests/unit/test_every_option.py`.
    """
    functions = {
        node.name: node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    found = set()
    for name, function in functions.items():
        original = functions.get(f"{name.rpartition('__mutmut_')[0]}__mutmut_orig")
        if original is None or original is function:
            continue
        changed = [
            _changed(one, other) for one, other in zip(original.body, function.body, strict=False)
        ]
        if any(map(_is_words, changed)):
            found.add(name)
    return found


def _is_words(node: Any) -> bool:
    if isinstance(node, ast.JoinedStr):
        return any(map(_is_words, node.values))
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    return re.search(r"\w \w", node.value) is not None


def _changed(one: Any, other: Any) -> Any:
    """The innermost node of `one` that is another, or missing, in `other`; None if they are equal.
    The first, if there are several."""
    if isinstance(one, list):
        pairs = [
            pair for pair in zip(one, other, strict=False) if ast.dump(pair[0]) != ast.dump(pair[1])
        ]
        if len(one) != len(other):
            return pairs[0][0] if pairs else one[-1]
        return next((_changed(*pair) for pair in pairs), None)
    if not isinstance(one, ast.AST) or type(one) is not type(other):
        return one
    if ast.dump(one) == ast.dump(other):
        return None
    for name, value in ast.iter_fields(one):
        changed = _field(value, getattr(other, name))
        if changed is not None:
            return changed if isinstance(changed, ast.AST) else one
    return one


def _field(one: Any, other: Any) -> Any:
    if isinstance(one, (list, ast.AST)) and isinstance(other, (list, ast.AST)):
        is_nodes = not isinstance(one, list) or all(isinstance(each, ast.AST) for each in one)
        return _changed(one, other) if is_nodes else None
    return one if one != other else None
