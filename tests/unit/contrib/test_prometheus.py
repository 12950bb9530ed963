"""contrib/prometheus.py: what is counted, what a scrape says, the dashboard that asks for it."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from cases import cases
from handshakes import Knows, authenticator, drive, mint, websocket
from issuer import issuing, jwk
from pages import blocks
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families
from run_example import EXAMPLES, Running, running
from servers import DEADLINE
from sockets import Seat, open_socket
from websockets.sync.client import connect

from asgi_wsauth import (
    JWKS,
    Abandoned,
    Admitted,
    Closed,
    ConfigurationError,
    ConnectionLimit,
    Denied,
    Event,
    HTTPAuthMiddleware,
    JWTVerifier,
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
    contrib,
)
from asgi_wsauth.contrib.prometheus import PrometheusMetrics

DASHBOARD = json.loads(Path(contrib.__path__[0], "grafana.json").read_text())
HTTP = {"protocol": "http"}


class Metrics:
    """An observer with a registry of its own."""

    def __init__(self, **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.observer = PrometheusMetrics(self.registry, **options)

    @property
    def exposition(self) -> str:
        return generate_latest(self.registry).decode()

    @property
    def counts(self) -> dict[str, float]:
        return counts(self.exposition)


def counts(exposition: str) -> dict[str, float]:
    """What is not 0 in an exposition, as Prometheus's parser reads it; without empty labels, which
    Prometheus takes for none, and without times."""
    found = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            ours = sample.name.startswith("wsauth_")
            if ours and sample.value and not sample.name.endswith(("_created", "_sum", "_bucket")):
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()) if v)
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def handshake(labels: str, protocol: str = "websocket") -> dict[str, float]:
    """One verdict, as it is counted and timed."""
    outcome = re.findall("outcome=[a-z]+", labels)[0]
    first, _, last = f"{labels},protocol={protocol}".partition(",reason=")
    reason, _, protocol_label = last.partition(",")
    ordered = f"{first},{protocol_label},reason={reason}" if last else first
    return {
        f"wsauth_handshakes_total{{{ordered}}}": 1,
        f"wsauth_handshake_duration_seconds_count{{{outcome},protocol={protocol}}}": 1,
    }


LIVE = "wsauth_live_sockets{}"
COUNTED: list[tuple[Event, dict[str, float]]] = [
    (Admitted(method="jwt"), {**handshake("method=jwt,outcome=admitted"), LIVE: 1}),
    (Admitted(method="jwt", **HTTP), handshake("method=jwt,outcome=admitted", "http")),
    *(
        (
            Refused(reason=reason, close_code=1008),
            handshake(f"outcome=refused,reason={reason.phrase}"),
        )
        for reason in Reason
    ),
    (
        Refused(reason=Reason.REVOKED, close_code=4004, method="ticket"),
        handshake("method=ticket,outcome=refused,reason=token_revoked"),
    ),
    (
        Refused(reason=Reason.MISSING, **HTTP),
        handshake("outcome=refused,reason=token_missing", "http"),
    ),
    (Abandoned(), handshake("outcome=abandoned")),
    (Closed(), {"wsauth_sockets_closed_total{cause=app_or_client}": 1, LIVE: -1}),
    (
        Closed(reason=Reason.EXPIRED, close_code=4001),
        {"wsauth_sockets_closed_total{cause=token_expired}": 1, LIVE: -1},
    ),
    (
        Closed(reason=Reason.EXPIRED, **HTTP),
        {"wsauth_streams_ended_total{cause=token_expired}": 1},
    ),
    (Refreshed(), {"wsauth_refreshes_total{outcome=refreshed}": 1}),
    (
        Refused(reason=Reason.FORBIDDEN, close_code=None),
        {"wsauth_refreshes_total{outcome=refused,reason=forbidden}": 1},
    ),
    (TicketIssued(), {"wsauth_tickets_issued_total{}": 1}),
    *(
        (
            LoggedOut(subject=subject, told_by=told_by),
            {f"wsauth_logouts_total{{subject={subject},told_by={told_by}}}": 1},
        )
        for subject, told_by in [("session", "logout_token"), ("user", "security_event")]
    ),
    (SessionsEnded(ended=3), {"wsauth_sessions_ended_total{by=user}": 3}),
    (
        SessionsEnded(ended=2, administrator="root"),
        {"wsauth_sessions_ended_total{by=administrator}": 2},
    ),
    (
        KeysFetched(url="https://id.example/keys", keys=2),
        {"wsauth_jwks_fetches_total{outcome=fetched,url=https://id.example/keys}": 1},
    ),
    (
        KeysFetched(url="https://id.example/keys", failure="HTTP 500"),
        {"wsauth_jwks_fetches_total{outcome=failed,url=https://id.example/keys}": 1},
    ),
    (Event(), {}),
]


@cases(("event", "counted"), COUNTED, ids=lambda v: getattr(v, "name", ""))
def test_what_an_event_counts(event: Event, counted: dict[str, float]) -> None:
    metrics = Metrics()
    metrics.observer(event)
    assert metrics.counts == counted


def test_how_long_it_took_is_told_in_seconds() -> None:
    metrics = Metrics()
    metrics.observer(Refused(reason=Reason.INVALID, close_code=1008, duration=0.004))
    labels = {"protocol": "websocket", "outcome": "refused"}
    value = metrics.registry.get_sample_value
    assert value("wsauth_handshake_duration_seconds_sum", labels) == 0.004
    assert value("wsauth_handshake_duration_seconds_bucket", {**labels, "le": "0.005"}) == 1
    assert value("wsauth_handshake_duration_seconds_bucket", {**labels, "le": "0.0025"}) == 0


def test_no_label_has_what_a_client_sends() -> None:
    """Nor what only one user has: each value of a label is kept until the process ends."""
    metrics = Metrics()
    secret = {name: f"secret-{name}" for name in "client path origin identity fingerprint".split()}
    for event, _ in COUNTED:
        values = {**vars(event), **secret}
        if isinstance(event, Refused):
            values |= {"detail": "secret-detail", "traceback": "secret-traceback"}
        metrics.observer(type(event)(**values))
    assert "secret" not in metrics.exposition
    labels = {
        label
        for family in text_string_to_metric_families(metrics.exposition)
        for sample in family.samples
        for label in sample.labels
    }
    known = "protocol outcome method reason cause url le subject told_by by"
    assert labels == set(known.split())


# Through the middlewares


def guarded(app: Any, metrics: Metrics, **options: Any) -> WebSocketAuthMiddleware:
    verifier = Knows(a=Principal("alice", method="jwt"), b=Principal("bob"))
    auth = authenticator(verifier, observers=[metrics.observer])
    return WebSocketAuthMiddleware(app, auth, **options)


@pytest.mark.anyio
async def test_a_socket_is_live_until_its_app_has_ended() -> None:
    metrics = Metrics()
    async with open_socket(guarded(Seat(), metrics)):
        assert metrics.counts[LIVE] == 1
    assert LIVE not in metrics.counts
    assert metrics.counts["wsauth_sockets_closed_total{cause=app_or_client}"] == 1


MOST = "wsauth_live_sockets_max{}"


@pytest.mark.anyio
async def test_live_sockets_are_told_beside_how_many_there_may_be() -> None:
    limit = ConnectionLimit(total=2)
    metrics = Metrics(connection_limit=limit)
    assert metrics.counts == {MOST: 2}
    app = guarded(Seat(), metrics, connection_limit=limit)
    async with open_socket(app), open_socket(app):
        await drive(app, websocket("token=a"))
        assert {name: metrics.counts[name] for name in (LIVE, MOST)} == {LIVE: 2, MOST: 2}
    refused = "wsauth_handshakes_total{outcome=refused,protocol=websocket,reason=%s}"
    assert metrics.counts[refused % "too_many_connections"] == 1
    assert LIVE not in metrics.counts


def test_a_worker_that_was_forked_tells_it_with_its_first_socket() -> None:
    metrics = Metrics(connection_limit=ConnectionLimit(3, MemoryStore(), total=2))
    metrics.observer._live_max.set(0)  # type: ignore[union-attr]
    metrics.observer(Admitted(protocol="http"))
    assert MOST not in metrics.counts
    metrics.observer(Admitted())
    assert metrics.counts[MOST] == 2


@pytest.mark.anyio
async def test_a_socket_whose_app_fails_is_not_live() -> None:
    async def fails(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    metrics = Metrics()
    with pytest.raises(ZeroDivisionError):
        await guarded(fails, metrics)(websocket("token=a"), None, None)
    assert LIVE not in metrics.counts


@pytest.mark.anyio
async def test_a_request_is_counted_and_is_no_live_socket() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    metrics = Metrics()
    auth = authenticator(Knows(a=Principal("alice")), observers=[metrics.observer])
    scope = {**websocket("token=a"), "type": "http", "method": "GET"}
    await HTTPAuthMiddleware(app, auth)(scope, None, None)
    assert metrics.counts == handshake("method=custom,outcome=admitted", "http")


@pytest.mark.anyio
async def test_a_refused_refresh_is_no_refused_handshake() -> None:
    metrics, seat = Metrics(), Seat()
    async with open_socket(guarded(seat, metrics, refresh_message="auth.refresh")):
        with pytest.raises(Denied):
            await seat.session.refresh("b")
    assert metrics.counts == {
        **handshake("method=jwt,outcome=admitted"),
        "wsauth_refreshes_total{outcome=refused,reason=forbidden}": 1,
        "wsauth_sockets_closed_total{cause=app_or_client}": 1,
    }


@pytest.mark.anyio
async def test_one_serves_authenticators_and_keys() -> None:
    metrics = Metrics()
    with issuing() as issuer:
        issuer.add_key("1")
        keys = JWKS(f"{issuer.url}/jwks?secret=x", observers=[metrics.observer])
        verifier = JWTVerifier(keys, algorithms=["ES256"], clock=lambda: 1.8e9)
        issuer.pages["/jwks?secret=x"] = {"keys": [jwk(issuer.keys["1"], "1")]}
        for _ in range(2):
            auth = authenticator(verifier, observers=[metrics.observer])
            app = WebSocketAuthMiddleware(Seat(), auth)
            async with open_socket(app, f"token={issuer.token('1')}"):
                pass
    told = metrics.counts
    assert told["wsauth_handshakes_total{method=jwt,outcome=admitted,protocol=websocket}"] == 2
    assert told[f"wsauth_jwks_fetches_total{{outcome=fetched,url={issuer.url}/jwks}}"] == 1


# Configuration


def test_two_on_one_registry_are_an_error_that_says_what_to_do() -> None:
    registry = CollectorRegistry()
    PrometheusMetrics(registry)
    with pytest.raises(ConfigurationError, match="give the one that is there to all"):
        PrometheusMetrics(registry)


@cases("limit", [ConnectionLimit(3, MemoryStore()), 5000])
def test_a_limit_without_a_total_has_nothing_to_tell(limit: Any) -> None:
    registry = CollectorRegistry()
    with pytest.raises(ConfigurationError, match=r"^PrometheusMetrics: connection_limit must "):
        PrometheusMetrics(registry, connection_limit=limit)
    assert generate_latest(registry) == b""


def test_without_the_library_it_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'asgi-wsauth\[prometheus\]'"):
        PrometheusMetrics()


# examples/metrics.py, a real process


@pytest.fixture(scope="module")
def example() -> Iterator[Running]:
    with running(str(EXAMPLES / "metrics.py")) as process:
        yield process


def scrape(process: Running) -> str:
    seen = process.ask("GET", "/metrics")
    assert seen.status == 200
    assert seen.headers["content-type"].startswith("text/plain; version=")
    return seen.body.decode()


@pytest.mark.live
def test_prometheus_reads_what_the_example_counted(example: Running) -> None:
    address, where = example.written.splitlines()[:2]
    assert where == f"{example.origin}/metrics"
    with connect(address, proxy=None) as ws:
        ws.send("hello")
        assert ws.recv(timeout=10) == "alice: hello"
        assert counts(scrape(example))[LIVE] == 1
        assert example.talk("/chat").close == (1008, "token_missing")
        assert example.talk("/chat", token="secret-token").close == (1008, "token_invalid")
    token = address.partition("token=")[2]
    deadline = time.monotonic() + DEADLINE
    while LIVE in (told := counts(scrape(example))):  # the server may still be saying goodbye
        assert time.monotonic() < deadline
    refused = "wsauth_handshakes_total{outcome=refused,protocol=websocket,reason=%s}"
    assert told == {
        **handshake("method=jwt,outcome=admitted"),
        **handshake("outcome=refused,reason=token_missing"),
        refused % "token_invalid": 1,
        "wsauth_handshake_duration_seconds_count{outcome=refused,protocol=websocket}": 2,
        "wsauth_sockets_closed_total{cause=app_or_client}": 1,
    }
    for credential in (token, "secret-token"):
        assert credential not in scrape(example)


# Two workers, of which each may be asked for the metrics.
WORKERS = """
import os, sys, uvicorn
if __name__ == "__main__":
    sys.path.append(sys.argv[1])
    uvicorn.run("worker:app", port=int(os.environ["PORT"]), workers=2)
"""


@pytest.mark.live
def test_worker_processes_are_added_up(tmp_path: Path) -> None:
    secret = "pZ3v8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
    token = mint(secret, aud="chat", exp=4e9)
    started = "Application startup complete"
    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    (forgets,) = [b for b in blocks("docs/guides/metrics.md") if "def forget_dead_workers" in b]
    start = "\nforget_dead_workers()\nfrom metrics import app\n"
    (tmp_path / "worker.py").write_text(forgets + start)
    own = tmp_path / "counts"
    own.mkdir()
    environment = {"SECRET": secret, "PROMETHEUS_MULTIPROC_DIR": str(own)}
    with (
        running(str(script), str(EXAMPLES), until=started, **environment) as process,
        ExitStack() as stack,
    ):
        process.wait_for(started)
        opened, address = 0, f"ws://127.0.0.1:{process.port}/chat?token={token}"
        while sum(counted(file) > 0 for file in own.glob("gauge_livesum_*.db")) < 2:
            stack.enter_context(connect(address, proxy=None))
            opened += 1
            assert opened < 200
        told = counts(scrape(process))
        victim = next(own.glob("gauge_livesum_*.db"))
        remain = opened - counted(victim)
        os.kill(int(victim.stem.rpartition("_")[2]), signal.SIGKILL)
        deadline = time.monotonic() + 3 * DEADLINE  # a worker is started in the meantime
        while (lives := counts(scrape(process)).get(LIVE)) != remain:
            assert time.monotonic() < deadline, lives
            time.sleep(0.1)
    assert told[LIVE] == opened
    assert told["wsauth_handshakes_total{method=jwt,outcome=admitted,protocol=websocket}"] == opened


def counted(file: Path) -> float:
    """The sum of one worker's own file."""
    return sum(value for _, value, *_ in MmapedDict.read_all_values_from_file(str(file)))


# The dashboard


def queries() -> list[str]:
    variables = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    asked = [variable["query"]["query"] for variable in variables]
    return asked + [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]


def exposed() -> dict[str, set[str]]:
    """The labels of each sample that there can be."""
    metrics = Metrics(connection_limit=ConnectionLimit(total=5))
    for event, _ in COUNTED:
        metrics.observer(event)
    return {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.exposition)
        for sample in family.samples
    }


def test_the_dashboard_is_one_that_grafana_knows() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert DASHBOARD["title"] == "asgi-wsauth"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) > 0
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["type"] == "timeseries"
        assert [t["refId"] for t in panel["targets"]] == list("ABC")[: len(panel["targets"])]
        assert all(t["datasource"]["uid"] == "${datasource}" for t in panel["targets"])


def test_grafanas_own_models_know_each_field_of_the_dashboard() -> None:
    """They drop what they don't know, and have a default for what is missing."""
    sdk = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()  # for the fields of panels and queries
    read = json.dumps(sdk.Dashboard.from_json(deepcopy(DASHBOARD)), cls=JSONEncoder)
    assert list(lost(DASHBOARD, json.loads(read))) == []
    misspelled = {**DASHBOARD, "panels": [{**DASHBOARD["panels"][0], "titel": "a"}]}
    read = json.dumps(sdk.Dashboard.from_json(misspelled), cls=JSONEncoder)
    assert ".panels.0.titel" in lost(misspelled, json.loads(read))


def lost(written: Any, read: Any, at: str = "") -> Iterator[str]:
    """Where something was written that was not read as that."""
    if isinstance(written, dict) and isinstance(read, dict):
        for name, value in written.items():
            yield from lost(value, read.get(name, KeyError), f"{at}.{name}")
    elif isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        for place, pair in enumerate(zip(written, read, strict=True)):
            yield from lost(*pair, f"{at}.{place}")
    elif written != read:
        yield at


def test_the_panels_stand_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (grid["x"] + dx, grid["y"] + dy) for dx in range(grid["w"]) for dy in range(grid["h"])
        }
        assert not cells & taken
        taken |= cells


def test_the_dashboard_asks_for_what_there_is_and_for_all_of_it() -> None:
    there = exposed()
    asked = {name for query in queries() for name in re.findall(r"\bwsauth_\w+", query)}
    assert asked <= set(there)
    families = {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in there}
    assert {re.sub("_(total|bucket)$", "", name) for name in asked} == families


@cases("query", queries())
def test_a_query_of_the_dashboard_names_labels_that_exist(query: str) -> None:
    labels = {label for name in re.findall(r"\bwsauth_\w+", query) for label in exposed()[name]}
    labels |= {"job", "instance"}  # Prometheus's own
    selected = {
        label
        for selector in re.findall(r"\{(.*?)\}", query)
        for label in re.findall(r"(\w+) *!?=", selector)
    }
    grouped = {label for group in re.findall(r"by \((.*?)\)", query) for label in group.split(", ")}
    assert selected | grouped <= labels
    assert query.count("(") == query.count(")")


def test_what_a_query_selects_is_what_there_can_be() -> None:
    phrases = {reason.phrase for reason in Reason}
    there = {
        "protocol": {"websocket", "http"},
        "outcome": {"admitted", "refused", "abandoned"},
        "method": {"ticket"},
        "reason": phrases,
        "cause": phrases,
        "job": {"$job"},
    }
    for query in queries():
        for label, value in re.findall(r'(\w+) *!?=~?"(.*?)"', query):
            assert value in there[label], query


def test_a_legend_names_labels_that_its_query_keeps() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = re.findall(r"by \((.*?)\)", target["expr"])
            assert named <= {label for group in grouped for label in group.split(", ")}


def test_without_a_registry_it_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    of_the_process = CollectorRegistry()
    monkeypatch.setattr("prometheus_client.REGISTRY", of_the_process)
    PrometheusMetrics()
    assert of_the_process.get_sample_value("wsauth_live_sockets") == 0
