"""Spans and metrics for OpenTelemetry. Needs the extra `opentelemetry`, and the SDK of your choice.

Names follow the semantic conventions if there are any, and otherwise begin with `wsauth.`. Metrics
have no identity, address or path, and nothing contains a credential.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from asgi_wsauth.contrib import BUCKETS, check_total
from asgi_wsauth.denial import FAULTS
from asgi_wsauth.events import (
    Abandoned,
    Admitted,
    Closed,
    Event,
    KeysFetched,
    LoggedOut,
    Refreshed,
    Refused,
    SessionsEnded,
    TicketIssued,
)
from asgi_wsauth.options import check_bool, check_store, needs_extra
from asgi_wsauth.policies.limits import ConnectionLimit
from asgi_wsauth.printable import escaped, printable

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetryObserver"]


class OpenTelemetryObserver:
    """An observer that records spans and metrics: `Authenticator(..., observers=[log_event,
    OpenTelemetryObserver()])`.

    Each decision is a span that begins when the handshake arrives, within the current span (that of
    an ASGI instrumentation, for example). Its status is an error only if something failed
    (`Reason.UNAVAILABLE` and `Reason.ERROR`).

    Args:
        tracer_provider: the `TracerProvider` that makes the spans; None for the global one.
        meter_provider: the `MeterProvider` that makes the metrics; None for the global one.
        identities: whether spans have `enduser.id`, which is personal data.
        connection_limit: the middleware's `ConnectionLimit`, if it has a `total`, which then
            becomes a metric beside the live sockets.

    Raises:
        ConfigurationError: an option is invalid, or opentelemetry-api (the extra `opentelemetry`)
            is not installed.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        identities: bool = False,
        connection_limit: ConnectionLimit | None = None,
    ) -> None:
        with needs_extra("OpenTelemetryObserver", "opentelemetry-api", "opentelemetry"):
            from opentelemetry import metrics, trace
        self._trace = trace
        self._identities = check_bool("OpenTelemetryObserver: identities", identities)
        for option, provider, method in (
            ("tracer_provider", tracer_provider, "get_tracer"),
            ("meter_provider", meter_provider, "get_meter"),
        ):
            if provider is not None:
                what, example = "a provider of the SDK", "leave it out for the global one"
                option = f"OpenTelemetryObserver: {option}"
                check_store(option, provider, method, what=what, example=example)
        self._tracer = trace.get_tracer("asgi_wsauth", tracer_provider=tracer_provider)
        meter = metrics.get_meter("asgi_wsauth", meter_provider=meter_provider)
        self._duration, self._fetches = (
            meter.create_histogram(
                f"wsauth.{name}.duration", "s", explicit_bucket_boundaries_advisory=BUCKETS
            )
            for name in ("handshake", "jwks.fetch")
        )
        self._live = meter.create_up_down_counter("wsauth.live_sockets", "{socket}")
        total = check_total("OpenTelemetryObserver", connection_limit)
        if total is not None:
            told = (metrics.Observation(total),)
            meter.create_observable_up_down_counter(
                "wsauth.live_sockets.max", [lambda _: told], "{socket}"
            )
        self._closed = meter.create_counter("wsauth.sockets_closed", "{socket}")
        self._ended = meter.create_counter("wsauth.streams_ended", "{stream}")
        self._refreshes = meter.create_counter("wsauth.refreshes", "{credential}")
        self._tickets = meter.create_counter("wsauth.tickets_issued", "{ticket}")
        self._logouts = meter.create_counter("wsauth.logouts", "{logout}")
        self._sessions = meter.create_counter("wsauth.sessions_ended", "{socket}")

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, (Admitted, Refused, Abandoned)):
            self._tell_verdict(event)
        elif isinstance(event, Closed):
            cause = event.reason.phrase if event.reason else "app_or_client"
            if event.protocol == "http":
                self._ended.add(1, {"wsauth.cause": cause})
            else:
                self._live.add(-1)
                self._closed.add(1, {"wsauth.cause": cause})
        elif isinstance(event, Refreshed):
            self._refreshes.add(1, {"wsauth.outcome": event.name})
        elif isinstance(event, TicketIssued):
            self._tickets.add(1)
        elif isinstance(event, LoggedOut):
            known = {"wsauth.subject": event.subject, "wsauth.told_by": event.told_by}
            self._logouts.add(1, known)
        elif isinstance(event, SessionsEnded):
            self._sessions.add(event.ended, {"wsauth.by": event.by})
        elif isinstance(event, KeysFetched):
            outcome = "failed" if event.failure else "fetched"
            self._fetches.record(event.duration, {"url.full": event.url, "wsauth.outcome": outcome})

    def _tell_verdict(self, event: Admitted | Refused | Abandoned) -> None:
        known = {"wsauth.outcome": event.name}
        if isinstance(event, Refused):
            known["wsauth.reason"] = event.reason.phrase
            if event.is_refresh:
                self._refreshes.add(1, known)  # the socket stays open
                return
            if event.reason in FAULTS:
                known["error.type"] = event.reason.phrase
        known["network.protocol.name"] = event.protocol
        if event.method is not None:
            known["wsauth.method"] = event.method
        self._duration.record(event.duration, known)
        if event.protocol == "websocket" and isinstance(event, Admitted):
            self._live.add(1)
        self._trace_verdict(event, known)

    def _trace_verdict(self, event: Admitted | Refused | Abandoned, known: dict[str, str]) -> None:
        ended = time.time_ns()
        more = {
            "client.address": event.client,
            "url.path": event.path,
            "enduser.id": event.identity if self._identities else None,
            "wsauth.fingerprint": event.fingerprint,
            "wsauth.login_method": event.login_method,
        }
        # Escaped, because an exporter drops whatever it can't encode, and clients may send
        # anything.
        told = {name: str(printable(value)) for name, value in more.items() if value is not None}
        span = self._tracer.start_span(
            f"authenticate {event.protocol}",
            attributes={**known, **told},
            start_time=ended - int(event.duration * 1e9),
        )
        if isinstance(event, Refused):
            if event.close_code is not None:
                span.set_attribute("wsauth.close_code", event.close_code)
            if event.reason in FAULTS:
                detail = str(printable(event.detail))
                span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, detail))
            if event.error_type is not None:
                span.add_event("exception", _exception(event))
        span.end(ended)


def _exception(event: Refused) -> dict[str, str]:
    """The failure in terms of the semantic conventions. Its message is in the last line of the
    stack trace, from which the credential is cut out."""
    return {
        "exception.type": escaped(event.error_type or ""),
        "exception.stacktrace": "\n".join(map(escaped, (event.traceback or "").splitlines())),
        "wsauth.error_at": escaped(event.error_at or ""),
    }
