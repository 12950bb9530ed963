"""Metrics for Prometheus. Needs the extra `prometheus`.

    wsauth_handshakes_total{protocol, outcome, method, reason}
    wsauth_handshake_duration_seconds{protocol, outcome}
    wsauth_live_sockets
    wsauth_live_sockets_max
    wsauth_sockets_closed_total{cause}
    wsauth_streams_ended_total{cause}
    wsauth_refreshes_total{outcome, reason}
    wsauth_tickets_issued_total
    wsauth_logouts_total{subject, told_by}
    wsauth_sessions_ended_total{by}
    wsauth_jwks_fetches_total{url, outcome}

`reason` and `cause` are phrases of the table, `method` is the principal's, `subject` and `told_by`
are those of `LoggedOut`, `by` is `user` or `administrator`. `wsauth_live_sockets_max` is there
where `connection_limit` is given. No label has an identity, an address, a path or a credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asgi_wsauth.contrib import BUCKETS, check_total
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
from asgi_wsauth.options import ConfigurationError, check_store, needs_extra
from asgi_wsauth.policies.limits import ConnectionLimit

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["PrometheusMetrics"]


class PrometheusMetrics:
    """An observer that counts: `Authenticator(..., observers=[log_event, PrometheusMetrics()])`.

    One instance serves any number of authenticators, a `JWKS` and a `LogoutEndpoint`. With several
    worker processes, the number of live sockets and its maximum are sums over living processes: see
    "Multiprocess Mode" in prometheus-client's docs.

    Args:
        registry: the `CollectorRegistry` in which its metrics are registered; None for
            prometheus-client's own `REGISTRY`.
        connection_limit: the middleware's `ConnectionLimit`, if it has a `total`, which then
            becomes a metric beside the live sockets.

    Raises:
        ConfigurationError: an option can't work, the registry already has these metrics, or
            prometheus-client (the extra `prometheus`) is not installed.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        connection_limit: ConnectionLimit | None = None,
    ) -> None:
        with needs_extra("PrometheusMetrics", "prometheus-client", "prometheus"):
            from prometheus_client import REGISTRY
        if registry is not None:
            option, example = "PrometheusMetrics: registry", "CollectorRegistry()"
            check_store(option, registry, "register", what="a CollectorRegistry", example=example)
        self._total = check_total("PrometheusMetrics", connection_limit)
        try:
            self._register(REGISTRY if registry is None else registry)
        except ValueError:  # prometheus-client's message wouldn't help
            raise ConfigurationError(
                "PrometheusMetrics: the registry has these metrics; give the one that is there to "
                "all authenticators, or take another registry"
            ) from None

    def _register(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        def counter(name: str, told: str, *labels: str) -> Counter:
            return Counter(f"wsauth_{name}", told, labels, registry=registry)

        self._handshakes = counter(
            "handshakes", "Verdicts", "protocol", "outcome", "method", "reason"
        )
        self._duration = Histogram(
            "wsauth_handshake_duration_seconds",
            "Time from a handshake's arrival to its verdict",
            ("protocol", "outcome"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._live = Gauge(
            "wsauth_live_sockets",
            "Admitted sockets that have not ended",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._live_max: Gauge | None = None
        if self._total is not None:
            self._live_max = Gauge(
                "wsauth_live_sockets_max",
                "How many sockets there may be",
                multiprocess_mode="livesum",
                registry=registry,
            )
            self._live_max.set(self._total)
        self._closed = counter("sockets_closed", "Admitted sockets that have ended", "cause")
        self._ended = counter("streams_ended", "Streams over HTTP that were ended", "cause")
        self._refreshes = counter(
            "refreshes", "New credentials on open sockets", "outcome", "reason"
        )
        self._tickets = counter("tickets_issued", "Tickets handed out")
        self._logouts = counter("logouts", "Logins ended by their provider", "subject", "told_by")
        self._sessions = counter("sessions_ended", "Sockets ended by users, or for them", "by")
        self._fetches = counter("jwks_fetches", "Fetches of signing keys", "url", "outcome")

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, (Admitted, Refused, Abandoned)):
            self._count_verdict(event)
        elif isinstance(event, Closed):
            cause = event.reason.phrase if event.reason else "app_or_client"
            if event.protocol == "http":
                self._ended.labels(cause).inc()
            else:
                self._live.dec()
                self._closed.labels(cause).inc()
        elif isinstance(event, Refreshed):
            self._refreshes.labels(event.name, "").inc()
        elif isinstance(event, TicketIssued):
            self._tickets.inc()
        elif isinstance(event, LoggedOut):
            self._logouts.labels(event.subject, event.told_by).inc()
        elif isinstance(event, SessionsEnded):
            self._sessions.labels(event.by).inc(event.ended)
        elif isinstance(event, KeysFetched):
            self._fetches.labels(event.url, "failed" if event.failure else "fetched").inc()

    def _count_verdict(self, event: Admitted | Refused | Abandoned) -> None:
        reason = ""
        if isinstance(event, Refused):
            reason = event.reason.phrase
            if event.is_refresh:  # the socket stays open
                self._refreshes.labels(event.name, reason).inc()
                return
        labels = event.protocol, event.name
        self._handshakes.labels(*labels, event.method or "", reason).inc()
        self._duration.labels(*labels).observe(event.duration)
        if event.protocol == "websocket" and isinstance(event, Admitted):
            self._live.inc()
            if self._live_max is not None and self._total is not None:
                self._live_max.set(self._total)  # by each worker that was forked since
