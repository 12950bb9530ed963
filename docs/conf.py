"""Sphinx builds the documentation: `sphinx-build -W -b html docs build/docs`."""

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # this tree's package, whatever is installed

import asgi_wsauth  # noqa: E402

project = "asgi-wsauth"
author = "The asgi-wsauth authors"
release = asgi_wsauth.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "_ext",
]
nitpicky = True
# Types that are no names of this package's reference, and so lead nowhere: Python's, those of
# libraries, and shapes whose option says in words what it takes.
PYTHON = "bool|float|int|list|object|str|tuple|None|RuntimeError|TypeError|ValueError"
TYPING = "Any|Callable|Iterable|Literal|Mapping|Sequence|TypeAlias|Unpack"
OTHERS = "CollectorRegistry|MeterProvider|Secret|TracerProvider"
SHAPES = (
    "AnyASGIApp|Attempt|ClaimName|ClaimValue|Client|DialectName|HeaderValue|IdentityOf|JWKSOptions"
    "|Key|LoadUser|OIDCOptions|OnEnd|OnRefresh|Preflight|Read"
)
nitpick_ignore_regex = [
    ("py:.*", rf"(asgi_wsauth\.(\w+\.)+)?({PYTHON}|{TYPING}|{OTHERS}|{SHAPES})"),
    ("py:.*", r"(collections|contextlib|starlette|typing)\..*"),
]
default_role = "literal"
exclude_patterns = ["_static"]

html_theme = "furo"
html_title = "asgi-wsauth"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_copy_source = False

myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
napoleon_use_ivar = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

# Of a session in a terminal, the commands are copied, without what they print.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_exclude = ".linenos, .gp, .go"
