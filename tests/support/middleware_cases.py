"""What both middlewares promise."""

from __future__ import annotations

from cases import cases

exclusions = cases(  # by exclude=["/public/*", "/health"]
    ("path", "passes"),
    [
        ("/public/x", True),
        ("/health", True),
        ("/public/../admin", False),
        ("//public/x", False),
        ("/publicity", False),
        ("/ws", False),
        ("/api", False),
    ],
)

scope_requirements = cases(
    ("required", "held", "admitted"),
    [
        ((), "", True),
        (["chat:read"], "chat:read chat:write", True),
        (["chat:write", "chat:read"], "chat:read", False),
        (["chat:read", "chat:write"], "chat:read", False),
        (["chat"], "chat:read", False),
        (["chat:read"], "", False),
    ],
)
