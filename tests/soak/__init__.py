"""Hours of use in minutes: `python -m tests.soak --minutes 20`, from the project's root.

Real uvicorn workers share a Redis and an identity provider. Clients of all kinds come and go, and
things break meanwhile; see `scenarios` and `faults`. In the end a table tells what was tried, and
what went wrong; the exit code is 0 only where nothing did. Ctrl-C ends it early, with the table.
"""

import sys
from pathlib import Path

# What the tests share (frames, servers, issuer, ...) is imported as it is there.
_SUPPORT = str(Path(__file__).resolve().parents[1] / "support")
if _SUPPORT not in sys.path:
    sys.path.insert(0, _SUPPORT)
