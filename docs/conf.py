"""Sphinx builds the documentation: `sphinx-build -W -b html docs build/docs`."""

import asgi_wsauth

project = "asgi-wsauth"
author = "The asgi-wsauth authors"
release = asgi_wsauth.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
nitpicky = True

html_theme = "furo"
html_title = "asgi-wsauth"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_typehints = "description"
autodoc_member_order = "bysource"
