"""contrib/opentelemetry.py: what a real SDK exports of handshakes through the middleware."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from cases import cases
from handshakes import App, Knows, authenticator, bearer, drive, websocket
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sockets import LEFT, Seat, open_socket
from sockets import running as connected

from asgi_wsauth import (
    Abandoned,
    Admitted,
    Closed,
    ConfigurationError,
    ConnectionLimit,
    Credential,
    Denied,
    Event,
    HTTPAuthMiddleware,
    KeysFetched,
    LoggedOut,
    MemoryStore,
    Principal,
    Reason,
    Refreshed,
    Refused,
    SessionsEnded,
    TicketIssued,
    WebSocketAuthMiddleware,
)
from asgi_wsauth.contrib.opentelemetry import OpenTelemetryObserver

OK, ERROR = trace.StatusCode.UNSET, trace.StatusCode.ERROR
TOKEN = "secret-token-of-alice"
QUERY = f"token={TOKEN}"


class Telemetry:
    """An observer, and what its SDK would export."""

    def __init__(self, **options: Any) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.observer = OpenTelemetryObserver(
            tracer_provider=self.tracers, meter_provider=self.meters, **options
        )

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    @property
    def span(self) -> ReadableSpan:
        """The only one."""
        (span,) = self.spans
        return span

    @property
    def metrics(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """Each metric's name, with what it counted for which attributes."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: [
                (dict(p.attributes or {}), getattr(p, "count", getattr(p, "value", None)))
                for p in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    @property
    def exported(self) -> str:
        """All that leaves the process."""
        metrics = self._reader.get_metrics_data()
        return "\n".join([*(s.to_json() for s in self.spans), metrics.to_json() if metrics else ""])


def guarded(app: Any, telemetry: Telemetry, *verifiers: Any, **auth: Any) -> Any:
    verifier = Knows(**{TOKEN: Principal("alice", method="jwt")}, b=Principal("bob"))
    auth = {"observers": [telemetry.observer], **auth}
    return WebSocketAuthMiddleware(
        app, authenticator(*(verifiers or [verifier]), **auth), refresh_message="auth.refresh"
    )


# Spans


@pytest.mark.anyio
async def test_an_admission_is_a_span() -> None:
    telemetry = Telemetry()
    async with open_socket(guarded(Seat(), telemetry), QUERY):
        assert telemetry.span.name == "authenticate websocket"
    span = telemetry.span  # the end of the socket is none
    assert dict(span.attributes or {}) == {
        "wsauth.outcome": "admitted",
        "wsauth.method": "jwt",
        "wsauth.fingerprint": Credential(TOKEN).fingerprint,
        "network.protocol.name": "websocket",
        "client.address": "127.0.0.1",
        "url.path": "/ws",
    }
    assert span.kind is trace.SpanKind.INTERNAL
    assert span.status.status_code is OK
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "asgi_wsauth"


@pytest.mark.anyio
async def test_the_login_behind_a_ticket_is_in_the_span_and_in_no_metric() -> None:
    telemetry = Telemetry()
    verifier = Knows(x=Principal("alice", method="ticket", login_method="api_key"))
    async with open_socket(guarded(Seat(), telemetry, verifier), "token=x"):
        attributes = dict(telemetry.span.attributes or {})
    assert (attributes["wsauth.method"], attributes["wsauth.login_method"]) == ("ticket", "api_key")
    assert all("api_key" not in repr(told) for told in telemetry.metrics.values())


@pytest.mark.anyio
async def test_a_refusal_is_a_span_with_its_reason() -> None:
    telemetry = Telemetry()
    await drive(guarded(App(), telemetry), websocket())
    attributes = dict(telemetry.span.attributes or {})
    assert attributes["wsauth.outcome"] == "refused"
    assert attributes["wsauth.reason"] == "token_missing"
    assert attributes["wsauth.close_code"] == 1008
    assert not attributes.keys() & {"wsauth.method", "wsauth.fingerprint", "error.type"}
    assert telemetry.span.status.status_code is OK


@pytest.mark.anyio
@cases(("query", "outcome"), [("token=b", "admitted"), ("", "refused")])
async def test_a_request_is_a_span(query: str, outcome: str) -> None:
    telemetry = Telemetry()
    auth = authenticator(Knows(b=Principal("bob")), observers=[telemetry.observer])
    scope = {**websocket(query), "type": "http", "method": "GET"}
    await drive(HTTPAuthMiddleware(App(), auth), scope)
    attributes = telemetry.span.attributes or {}
    assert telemetry.span.name == "authenticate http"
    assert (attributes["network.protocol.name"], attributes["wsauth.outcome"]) == ("http", outcome)
    assert "wsauth.close_code" not in attributes


@cases("reason", list(Reason))
def test_only_what_broke_is_an_error(reason: Reason) -> None:
    telemetry = Telemetry()
    telemetry.observer(Refused(reason=reason, close_code=1011, detail="the store: OSError"))
    status, attributes = telemetry.span.status, telemetry.span.attributes or {}
    if reason in (Reason.ERROR, Reason.UNAVAILABLE):
        assert (status.status_code, status.description) == (ERROR, "the store: OSError")
        assert attributes["error.type"] == reason.phrase
    else:
        assert (status.status_code, status.description) == (OK, None)
        assert "error.type" not in attributes


@pytest.mark.anyio
async def test_what_broke_is_an_exception_of_the_span_without_the_credential() -> None:
    async def breaks(credential: Any, conn: Any) -> Principal | None:
        raise LookupError(f"at {credential.value}\x1b[2J")

    telemetry = Telemetry()
    await drive(guarded(App(), telemetry, breaks), websocket(QUERY))
    (event,) = telemetry.span.events
    told = dict(event.attributes or {})
    assert event.name == "exception"
    assert told["exception.type"] == "LookupError"
    where = r"test_what_broke\S+<locals>\.breaks at contrib/test_opentelemetry\.py:\d+"
    assert re.fullmatch(where, str(told["wsauth.error_at"]))
    assert str(told["exception.stacktrace"]).endswith("LookupError: at [redacted]\\x1b[2J")
    assert TOKEN not in telemetry.exported


@cases("event", [Refused(reason=Reason.ERROR), Refused(reason=Reason.INVALID)])
def test_a_refusal_for_which_nothing_broke_has_no_exception(event: Refused) -> None:
    telemetry = Telemetry()
    telemetry.observer(replace(event, close_code=1011))
    assert telemetry.span.events == ()


def test_an_exception_that_was_never_raised_is_told_without_its_place() -> None:
    telemetry = Telemetry()
    telemetry.observer(Refused(reason=Reason.ERROR, close_code=1011, error_type="KeyError"))
    (event,) = telemetry.span.events
    assert dict(event.attributes or {})["exception.type"] == "KeyError"


@pytest.mark.anyio
async def test_a_client_that_leaves_before_the_verdict_is_a_span() -> None:
    async def waits(credential: Any, conn: Any) -> Principal | None:
        await anyio.sleep_forever()

    telemetry = Telemetry()
    async with connected(guarded(App(), telemetry, waits)) as wire:
        wire.put(LEFT)
    assert (telemetry.span.attributes or {})["wsauth.outcome"] == "abandoned"


def test_a_span_begins_when_the_handshake_did() -> None:
    telemetry = Telemetry()
    before = time.time_ns()
    telemetry.observer(Admitted(duration=2.5))
    after = time.time_ns()
    span = telemetry.span
    assert span.start_time is not None and span.end_time is not None
    assert span.end_time - span.start_time == 2_500_000_000
    assert before <= span.end_time <= after


@pytest.mark.anyio
@cases("query", [f"token={TOKEN}", "token=bad"])
async def test_its_parent_is_what_is_current_outside(query: str) -> None:
    """As an ASGI instrumentation around the middleware does it."""
    telemetry = Telemetry()
    inner = guarded(App(), telemetry)

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        tracer = telemetry.tracers.get_tracer("asgi")
        with tracer.start_as_current_span("GET /ws", kind=trace.SpanKind.SERVER):
            await inner(scope, receive, send)

    await drive(instrumented, websocket(query))
    ours, server = telemetry.spans
    assert server.name == "GET /ws"
    assert ours.parent is not None
    assert ours.parent == server.context


def ours_around(app: Any, telemetry: Telemetry) -> Any:
    """Both middlewares."""
    verifier = Knows(**{TOKEN: Principal("alice", method="jwt")})
    auth = authenticator(verifier, observers=[telemetry.observer])
    return HTTPAuthMiddleware(WebSocketAuthMiddleware(app, auth), auth)


@pytest.mark.anyio
@cases("protocol", ["http", "websocket"])
@cases("token", [TOKEN, "stranger-" + TOKEN], ids=["admitted", "refused"])
async def test_an_instrumentation_inside_of_ours_has_no_token_and_one_outside_has_it(
    protocol: str, token: str
) -> None:
    """OpenTelemetry's own for ASGI puts the whole address into its span before it asks the app."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if protocol == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await App()(scope, receive, send)

    def instrumented(app: Any, telemetry: Telemetry) -> Any:
        return OpenTelemetryMiddleware(app, tracer_provider=telemetry.tracers)

    async def exported(build: Callable[[Telemetry], Any]) -> tuple[str, list[str]]:
        telemetry = Telemetry()
        scope = websocket(f"a=1&token={token}&b=2", headers=bearer(token))
        scope |= {"type": protocol, "method": "GET", "path": "/ws"}
        await drive(build(telemetry), scope)
        return telemetry.exported, [span.name for span in telemetry.spans]

    clean, names = await exported(lambda told: ours_around(instrumented(app, told), told))
    assert token not in clean
    assert any("/ws" in name for name in names) == (token == TOKEN)
    if token == TOKEN:
        assert "a=1&b=2" in clean
    leaky, names = await exported(lambda told: instrumented(ours_around(app, told), told))
    assert f"token={token}" in leaky
    assert any("/ws" in name for name in names)


@cases(("identities", "told"), [(False, None), (True, "alice")])
def test_who_it_was_is_told_only_where_that_is_wanted(identities: bool, told: str | None) -> None:
    telemetry = Telemetry(identities=identities)
    telemetry.observer(Admitted(identity="alice"))
    telemetry.observer(Refused(reason=Reason.MISSING, close_code=1008))
    admitted, refused = telemetry.spans
    assert (admitted.attributes or {}).get("enduser.id") == told
    assert "enduser.id" not in (refused.attributes or {})


@cases("value", ["a\ud800b", "\x1b[2J", "\u202e", "a" * 100_000], ids=ascii)
def test_what_a_client_sends_can_be_exported(value: str) -> None:
    telemetry = Telemetry(identities=True)
    telemetry.observer(Admitted(identity=value, path=value, client=value))
    broken = Refused(reason=Reason.ERROR, close_code=1011, detail=value, path=value)
    telemetry.observer(broken)
    for span in telemetry.spans:
        texts = [v for v in (span.attributes or {}).values() if isinstance(v, str)]
        for text in [*texts, span.status.description or ""]:
            assert text.isprintable() and len(text) < 1000
            text.encode()


# Metrics


def verdict(**known: Any) -> dict[str, Any]:
    attributes = {f"wsauth.{name}": value for name, value in known.items()}
    return {
        "wsauth.handshake.duration": [({"network.protocol.name": "websocket", **attributes}, 1)]
    }


URL = "https://id.example/keys"
COUNTED: list[tuple[Event, Any]] = [
    (
        Admitted(method="jwt"),
        {**verdict(outcome="admitted", method="jwt"), "wsauth.live_sockets": [({}, 1)]},
    ),
    (
        Admitted(protocol="http"),
        {
            "wsauth.handshake.duration": [
                ({"network.protocol.name": "http", "wsauth.outcome": "admitted"}, 1)
            ]
        },
    ),
    (
        Refused(reason=Reason.INVALID, close_code=1008),
        verdict(outcome="refused", reason="token_invalid"),
    ),
    (Abandoned(), verdict(outcome="abandoned")),
    (
        Closed(),
        {
            "wsauth.live_sockets": [({}, -1)],
            "wsauth.sockets_closed": [({"wsauth.cause": "app_or_client"}, 1)],
        },
    ),
    (
        Closed(reason=Reason.EXPIRED, close_code=4001),
        {
            "wsauth.live_sockets": [({}, -1)],
            "wsauth.sockets_closed": [({"wsauth.cause": "token_expired"}, 1)],
        },
    ),
    (
        Closed(reason=Reason.EXPIRED, protocol="http"),
        {"wsauth.streams_ended": [({"wsauth.cause": "token_expired"}, 1)]},
    ),
    (Refreshed(), {"wsauth.refreshes": [({"wsauth.outcome": "refreshed"}, 1)]}),
    (
        Refused(reason=Reason.EXPIRED),
        {
            "wsauth.refreshes": [
                ({"wsauth.outcome": "refused", "wsauth.reason": "token_expired"}, 1)
            ]
        },
    ),
    (TicketIssued(protocol="http"), {"wsauth.tickets_issued": [({}, 1)]}),
    (
        LoggedOut(subject="session", told_by="logout_token"),
        {"wsauth.logouts": [({"wsauth.subject": "session", "wsauth.told_by": "logout_token"}, 1)]},
    ),
    (SessionsEnded(ended=3), {"wsauth.sessions_ended": [({"wsauth.by": "user"}, 3)]}),
    (
        SessionsEnded(ended=2, administrator="root"),
        {"wsauth.sessions_ended": [({"wsauth.by": "administrator"}, 2)]},
    ),
    (
        KeysFetched(url=URL, keys=2),
        {"wsauth.jwks.fetch.duration": [({"url.full": URL, "wsauth.outcome": "fetched"}, 1)]},
    ),
    (
        KeysFetched(url=URL, failure="HTTP 500"),
        {"wsauth.jwks.fetch.duration": [({"url.full": URL, "wsauth.outcome": "failed"}, 1)]},
    ),
    (Event(), {}),
]


@cases(("event", "counted"), COUNTED, ids=lambda v: getattr(v, "name", ""))
def test_what_an_event_counts(event: Event, counted: Any) -> None:
    telemetry = Telemetry()
    telemetry.observer(event)
    assert telemetry.metrics == counted


def test_a_refused_refresh_is_no_handshake_and_so_no_span() -> None:
    telemetry = Telemetry()
    telemetry.observer(Refused(reason=Reason.EXPIRED))
    assert telemetry.spans == ()


@pytest.mark.anyio
async def test_a_socket_is_live_until_its_app_has_ended() -> None:
    telemetry = Telemetry()
    async with open_socket(guarded(Seat(), telemetry), QUERY):
        assert telemetry.metrics["wsauth.live_sockets"] == [({}, 1)]
    assert telemetry.metrics["wsauth.live_sockets"] == [({}, 0)]


@pytest.mark.anyio
async def test_live_sockets_are_told_beside_how_many_there_may_be() -> None:
    telemetry = Telemetry(connection_limit=ConnectionLimit(3, MemoryStore(), total=5))
    most = {"wsauth.live_sockets.max": [({}, 5)]}
    assert telemetry.metrics == most
    async with open_socket(guarded(Seat(), telemetry), QUERY):
        assert most.items() < telemetry.metrics.items()
    assert most.items() < telemetry.metrics.items()


def test_the_buckets_are_seconds() -> None:
    telemetry = Telemetry()
    telemetry.observer(Admitted(duration=0.004))
    data = telemetry._reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for m in data.resource_metrics[0].scope_metrics[0].metrics}
    metric = metrics["wsauth.handshake.duration"]
    (point,) = metric.data.data_points
    assert metric.unit == "s"
    assert {0.0025, 0.005} <= set(getattr(point, "explicit_bounds", ()))


# No credential is exported


@pytest.mark.anyio
async def test_nothing_that_is_exported_has_a_token() -> None:
    """Not where it is good, bad, in two places, or said by the verifier that broke on it."""

    async def breaks(credential: Credential, conn: Any) -> Principal | None:
        raise Denied(Reason.UNAVAILABLE, f"cannot ask about {credential.value}")

    telemetry = Telemetry(identities=True)
    seat = Seat()
    async with open_socket(guarded(seat, telemetry), QUERY):
        with pytest.raises(Denied):
            await seat.session.refresh("secret-refresh")
    for app in (guarded(App(), telemetry), guarded(App(), telemetry, breaks)):
        for query in ("token=secret-bad", "token=secret-a&token=secret-b"):
            await drive(app, websocket(query, headers=[("origin", "https://a.example")]))
    assert len(telemetry.spans) == 5
    assert "cannot ask about [redacted]" in telemetry.exported
    assert "secret" not in telemetry.exported


def test_metrics_have_nothing_that_a_client_sends() -> None:
    telemetry = Telemetry(identities=True)
    sent = {name: f"sent-{name}" for name in "client path origin identity fingerprint".split()}
    for event, _ in COUNTED:
        telemetry.observer(type(event)(**{**vars(event), **sent}))
    assert "sent-" not in str(telemetry.metrics)


# Configuration


@cases("limit", [ConnectionLimit(3, MemoryStore()), 5000])
def test_a_limit_without_a_total_has_nothing_to_tell(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^OpenTelemetryObserver: connection_limit must "):
        OpenTelemetryObserver(connection_limit=limit)


@pytest.mark.live
def test_the_providers_are_the_global_ones_by_default() -> None:
    """In a fresh interpreter, because they can be set only once; and set after the observer is
    built, which is allowed."""
    code = """
from asgi_wsauth import Admitted, ConnectionLimit
from asgi_wsauth.contrib.opentelemetry import OpenTelemetryObserver
from opentelemetry import trace, metrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
observer = OpenTelemetryObserver(connection_limit=ConnectionLimit(total=5))
observer(Admitted())  # there is nothing yet that could export it
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(tracers)
metrics.set_meter_provider(MeterProvider([reader]))
observer(Admitted())
assert len(spans.get_finished_spans()) == 1
told = reader.get_metrics_data().to_json()
assert "wsauth.live_sockets" in told
assert "wsauth.live_sockets.max" in told
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_the_library_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'asgi-wsauth\[opentelemetry\]'"):
        OpenTelemetryObserver()
