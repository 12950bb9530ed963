"""Every check of an option, and what a bad one raises.

A check takes the option's name, for the message, and what was given for it; it returns that, or
raises `ConfigurationError`. The message says what the option must be and what it got, and where it
helps, how to write it. No check ever puts a secret into a message.
"""

from __future__ import annotations

from asgi_wsauth.options.claims import (
    ClaimName,
    ClaimPath,
    ClaimValue,
    check_claim,
    check_claim_or_list,
    check_claim_values,
    check_claims,
)
from asgi_wsauth.options.error import (
    ConfigurationError,
    kind_of,
    shown,
)
from asgi_wsauth.options.extras import needs_extra
from asgi_wsauth.options.functions import (
    check_app,
    check_async,
    check_callable,
    check_clock,
)
from asgi_wsauth.options.headers import (
    HTTP_TOKEN,
    TOKEN_CHARACTER,
    HeaderValue,
    check_headers,
    header_value,
)
from asgi_wsauth.options.secrets import (
    VISIBLE,
    check_issued_secret,
    check_key,
    check_secret,
    not_given,
    one_or_more,
)
from asgi_wsauth.options.values import (
    check_bool,
    check_choice,
    check_count,
    check_instance,
    check_issuer,
    check_list,
    check_names,
    check_observers,
    check_rate,
    check_scope,
    check_scopes,
    check_seconds,
    check_seconds_or_none,
    check_store,
    check_text,
    check_time,
)

__all__ = [
    "HTTP_TOKEN",
    "TOKEN_CHARACTER",
    "VISIBLE",
    "ClaimName",
    "ClaimPath",
    "ClaimValue",
    "ConfigurationError",
    "HeaderValue",
    "check_app",
    "check_async",
    "check_bool",
    "check_callable",
    "check_choice",
    "check_claim",
    "check_claim_or_list",
    "check_claim_values",
    "check_claims",
    "check_clock",
    "check_count",
    "check_headers",
    "check_instance",
    "check_issued_secret",
    "check_issuer",
    "check_key",
    "check_list",
    "check_names",
    "check_observers",
    "check_rate",
    "check_scope",
    "check_scopes",
    "check_seconds",
    "check_seconds_or_none",
    "check_secret",
    "check_store",
    "check_text",
    "check_time",
    "header_value",
    "kind_of",
    "needs_extra",
    "not_given",
    "one_or_more",
    "shown",
]
