"""What Sphinx needs besides for this package's docs: all of it reads the package.

- `{options}` makes tables of constructors' options from their docstrings.
- `{reasons}` makes the table of `Reason`.
- `{help}` shows what a command prints with `--help`.
- Code in the text that is a name of this package links to its place in the reference.
"""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from docstrings import first_sentence, options, required
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.util.nodes import make_refnode

import asgi_wsauth
from asgi_wsauth import DAPHNE_CLOSE_CODES, GRAPHQL_CLOSE_CODES, Event, Reason, Session

PACKAGE = "asgi_wsauth"
ROOT = Path(__file__).parents[1]
logger = getLogger(__name__)


# Names in the text


class LinkNames(SphinxPostTransform):
    """Code that is a name of the package, with or without arguments, becomes a link."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            outside = (nodes.title, nodes.reference, addnodes.pending_xref, addnodes.desc_signature)
            if not _is_in(literal, outside):
                self._link(literal)

    def _link(self, literal: nodes.literal) -> None:
        name = literal.astext().partition("(")[0]
        if not name.replace(".", "").replace("_", "").isalnum():
            return
        around = [desc[0]["ids"][0] for desc in _above(literal, addnodes.desc) if desc[0]["ids"]]
        for target in _candidates(name, around):
            found = self.env.domains.python_domain.objects.get(target)
            if found is not None:
                if found.node_id in around:
                    return
                link = make_refnode(
                    self.app.builder, self.env.docname, found.docname, found.node_id, [], target
                )
                literal.replace_self(link)
                link += literal
                return
        if name.split(".")[0] in asgi_wsauth.__all__:
            logger.warning("no such name in the reference: %s", name, location=literal)


def _candidates(name: str, around: list[str]) -> list[str]:
    """The full names that a name may stand for, the nearest first."""
    first, dot, rest = name.partition(".")
    if first in asgi_wsauth.__all__:
        owner = f"{PACKAGE}.{first}"
        known = not dot or rest in dir(getattr(asgi_wsauth, first)) or rest in _fields(first)
        return [f"{PACKAGE}.{name}", owner] if known else [f"{PACKAGE}.{name}"]
    if name.startswith(f"{PACKAGE}."):
        return [name]
    inside = [f"{owner}.{name}" for owner in around if "." in owner]
    return inside + [f"{owner.rpartition('.')[0]}.{name}" for owner in around]


def _fields(name: str) -> set[str]:
    """The attributes that a class's docstring names."""
    text = inspect.getdoc(getattr(asgi_wsauth, name)) or ""
    return {line.strip().partition(":")[0] for line in text.splitlines() if ":" in line}


def _above(node: nodes.Node, kind: type[nodes.Node]) -> list[Any]:
    found, at = [], node.parent
    while at is not None:
        if isinstance(at, kind):
            found.append(at)
        at = at.parent
    return found


def _is_in(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    return any(_above(node, kind) for kind in kinds)


def resolve_type(app: Sphinx, env: Any, node: addnodes.pending_xref, content: Any) -> Any:
    """A type that an annotation names by the module it is defined in."""
    name = node.get("reftarget", "").rpartition(".")[2]
    if node.get("refdomain") != "py":
        return None
    found = env.domains.python_domain.objects.get(f"{PACKAGE}.{name}")
    if found is None:
        return None  # see `nitpick_ignore_regex` in conf.py
    return make_refnode(
        app.builder, node["refdoc"], found.docname, found.node_id, content, f"{PACKAGE}.{name}"
    )


# Docstrings


def no_signature(_: Any, what: str, name: str, obj: Any, *__: Any) -> tuple[str, None] | None:
    """Nobody calls an event, a protocol or the class of sessions."""
    is_given = isinstance(obj, type) and issubclass(obj, (Event, Reason, Session))
    return ("", None) if is_given or getattr(obj, "_is_protocol", False) else None


def mark_code(_: Any, what: str, name: str, obj: Any, __: Any, lines: list[str]) -> None:
    """In docstrings here, an indented block after a blank line is code, without any `::`."""
    for number in range(len(lines) - 1, 1, -1):
        before = lines[number - 2]
        follows = not lines[number - 1] and before and not before.startswith((" ", "- "))
        if follows and lines[number].startswith("    "):
            lines[number:number] = ["::", ""]


def docstring_of_alias(_: Any, what: str, name: str, obj: Any, __: Any, lines: list[str]) -> None:
    """The text below a name that is no class or function, in the module that defines it: after
    napoleon, which would take what is before a colon for a type."""
    if what != "data":
        return
    short = name.rpartition(".")[2]
    for module in [m for m in sys.modules if m.startswith(PACKAGE)]:
        if vars(sys.modules[module]).get(short) is not obj:
            continue
        try:
            documented = ModuleAnalyzer.for_module(module).find_attr_docs()
        except PycodeError:
            continue
        if ("", short) in documented:
            lines[:] = documented["", short]
            return


# Directives


def _default(built: Any, parameter: inspect.Parameter) -> str:
    """A default as its source has it; numbers with commas, and constants by their values."""
    source = _defaults(built)[parameter.name]
    if isinstance(source, (ast.Call, ast.Tuple)):
        return f"`{ast.unparse(source)}`".replace("'", '"')
    value = eval(ast.unparse(source), vars(sys.modules[built.__module__]))
    if type(value) is object:
        return "made anew"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"`{value!r}`".replace("'", '"')


def _defaults(built: type) -> dict[str, ast.expr]:
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(vars(built)["__init__"]))).body
    assert isinstance(function, ast.FunctionDef)
    told, at_end = function.args, -len(function.args.defaults) or len(function.args.args)
    named = zip(told.kwonlyargs, told.kw_defaults, strict=True)
    positional = zip(told.args[at_end:], told.defaults, strict=True)
    return {argument.arg: default for argument, default in (*named, *positional) if default}


class Options(SphinxDirective):
    """The options of classes: `{options} Authenticator JWTVerifier`."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = {"module": directives.unchanged}

    def run(self) -> list[nodes.Node]:
        module = self.options.get("module", PACKAGE)
        return [self._section(module, name) for name in self.arguments[0].split()]

    def _section(self, module: str, name: str) -> nodes.section:
        built = getattr(import_module(module), name)
        needed = ", ".join(p.name for p in required(built))
        full = name if module == PACKAGE else f"{module}.{name}"
        lines = [f"`{full}({needed})`", "", "| option | default | what it is |", "|---|---|---|"]
        lines += [
            f"| `{p.name}` | {_default(built, p)} | {first_sentence(told)} |"
            for p, told in options(built)
        ]
        section = nodes.section("", nodes.title("", name), names=[name])
        section += self.parse_text_to_nodes("\n".join(lines))
        self.state.document.note_implicit_target(section)
        return section


class Reasons(SphinxDirective):
    """The table of `Reason`, with the codes of both mappings."""

    def run(self) -> list[nodes.Node]:
        lines = [
            "| reason | close code | for Daphne | for GraphQL | HTTP | phrase | advice |",
            "|---|---|---|---|---|---|---|",
        ]
        for reason in Reason:
            codes = [reason.close_code]
            codes += [
                m.get(reason, reason.close_code) for m in (DAPHNE_CLOSE_CODES, GRAPHQL_CLOSE_CODES)
            ]
            told = " | ".join(map(str, codes))
            lines.append(
                f"| `{reason.name}` | {told} | {reason.http_status} | `{reason.phrase}` "
                f"| {reason.advice} |"
            )
        return self.parse_text_to_nodes("\n".join(lines))


class Help(SphinxDirective):
    """What a command prints with `--help`."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        command = [*self.arguments, "--help"]
        printed = subprocess.run(
            [sys.executable, "-m", PACKAGE, *command],
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "88", "NO_COLOR": "1", "PYTHON_COLORS": "0"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [nodes.literal_block(printed, printed, language="text")]


def setup(app: Sphinx) -> dict[str, Any]:
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_directive("options", Options)
    app.add_directive("reasons", Reasons)
    app.add_directive("help", Help)
    app.add_post_transform(LinkNames)
    app.connect("missing-reference", resolve_type)
    app.connect("autodoc-process-signature", no_signature)
    app.connect("autodoc-process-docstring", docstring_of_alias, priority=600)
    app.connect("autodoc-process-docstring", mark_code, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
