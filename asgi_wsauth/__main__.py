"""`python -m asgi_wsauth`: see cli/__init__.py."""

import sys

from asgi_wsauth.cli import main

sys.exit(main())
