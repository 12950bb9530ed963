"""The guides for production: what they show besides Python is read by the tools that it is for, and
the lines of the log are those that are logged."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cases import cases
from handshakes import SECRET, App, authenticator, drive, mint, websocket
from pages import PAGES, ROOT, blocks
from programs import needed

from asgi_wsauth import Closed, Credential, Reason, WebSocketAuthMiddleware, log_event

pytestmark = pytest.mark.anyio


def run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended
    return ended.stdout + ended.stderr


# What other tools read.


@pytest.mark.live
def test_systemd_takes_both_services(tmp_path: Path) -> None:
    verify = needed("systemd-analyze", "systemd")
    units = blocks("docs/guides/deploys.md", "ini")
    assert len(units) == 2
    for number, unit in enumerate(units):
        file = tmp_path / f"chat{number}.service"
        file.write_text(re.sub(r"/srv/chat\S+", "/bin/true", unit))
        said = run(verify, "verify", "--man=no", str(file))
        assert "chat" not in said, said


@pytest.mark.live
@pytest.mark.parametrize(
    ("number", "command"),
    [(0, ["caddy", "adapt", "--adapter", "caddyfile", "--config"]), (1, ["haproxy", "-c", "-f"])],
    ids=["caddy", "haproxy"],
)
def test_other_proxies_take_what_is_theirs(number: int, command: list[str], tmp_path: Path) -> None:
    found = needed(command[0], command[0])
    conf = tmp_path / "conf"
    conf.write_text(blocks("docs/guides/proxies.md", "text")[number])
    run(found, *command[1:], str(conf))


@pytest.mark.live
def test_prometheus_takes_the_alerts(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(*blocks("docs/guides/metrics.md", "yaml"))
    assert "4 rules found" in run(needed("promtool", "prometheus"), "check", "rules", str(rules))


def test_the_alerts_ask_for_metrics_labels_and_phrases_that_there_are() -> None:
    page = PAGES["docs/guides/metrics.md"]
    (alerts,) = blocks("docs/guides/metrics.md", "yaml")
    asked = set(re.findall(r"wsauth_\w+", alerts))
    listed = dict(re.findall(r"^\| `(wsauth_\w+)` \| (.*)\|$", page, re.MULTILINE))
    assert asked <= set(listed)
    dashboard = (ROOT / "asgi_wsauth/contrib/grafana.json").read_text()
    assert {name for name in listed if name not in dashboard} == set()
    for metric, label in re.findall(r"(wsauth_\w+)\{(\w+)=", alerts):
        assert f"`{label}`" in listed[metric]
    (phrases,) = re.findall('reason=~"(.*?)"', alerts)
    assert [Reason(phrase) for phrase in phrases.split("|")] == [
        Reason.UNAVAILABLE,
        Reason.ERROR,
        Reason.KEYS_UNAVAILABLE,
    ]


# Servers behind a proxy, which have no option of their own.


async def test_wrappers_of_granian_and_hypercorn_tell_the_clients_address() -> None:
    from granian.utils.proxies import wrap_asgi_with_proxy_headers
    from hypercorn.middleware import ProxyFixMiddleware

    told: list[Any] = []
    auth = authenticator(observers=[lambda event: told.append(event.client)])
    guarded: Any = WebSocketAuthMiddleware(App(), auth)
    for app in (
        wrap_asgi_with_proxy_headers(guarded, trusted_hosts="127.0.0.1"),
        ProxyFixMiddleware(guarded),
    ):
        forwarded = [("x-forwarded-for", "203.0.113.7")]
        await drive(app, websocket(f"token={mint()}", headers=forwarded))
    assert set(told) == {"203.0.113.7"}
    assert "`app = ProxyFixMiddleware(app)`" in PAGES["docs/guides/proxies.md"]


# The log.


def shape(line: str) -> str:
    """A line of the log, without what differs each time."""
    line = re.sub(r"duration=[\d.]+", "duration=0", line)
    line = re.sub(r"KeyError in \S+ at \S+:\d+", "KeyError in load_user at here:1", line)
    return re.sub(r"fingerprint=[0-9a-f]{16}", "fingerprint=0", line)


async def test_the_lines_of_the_log_are_like_those_that_it_shows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(principal: Any, conn: Any) -> Any:
        raise KeyError(principal.identity)

    client: Any = {"path": "/chat", "client": ("203.0.113.7", 50000)}
    who: Any = {"client": "203.0.113.7", "path": "/chat", "identity": "alice", "method": "jwt"}
    with caplog.at_level(logging.INFO, "asgi_wsauth"):
        for token, options in ((mint(), {}), ("rubbish", {}), (mint(), {"load_user": fail})):
            guarded = WebSocketAuthMiddleware(App(), authenticator(**options))
            await drive(guarded, websocket(f"token={token}", **client))
        log_event(Closed(reason=Reason.EXPIRED, close_code=4001, fingerprint="0" * 16, **who))
    logged = [shape(f"{r.levelname}:{r.name}:{r.getMessage()}") for r in caplog.records]
    *whole, broken = "".join(blocks("docs/guides/logs.md", "text")).splitlines()
    assert len(whole) == 3
    assert {shape(line) for line in whole} <= set(logged)
    assert any(line.startswith(shape(broken).removesuffix(" …")) for line in logged)


def test_a_fingerprint_is_what_the_command_prints() -> None:
    page = PAGES["docs/guides/logs.md"]
    (command,) = re.findall(r'`(printf %s "\$TOKEN" \| .*?)`', page)
    ended = subprocess.run(
        ["sh", "-c", command], env={"TOKEN": SECRET, "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert ended.stdout.decode().strip() == Credential(SECRET).fingerprint


# Tables of what ends a socket.


@cases(
    "page",
    [f"docs/guides/{name}.md" for name in "deploys endings limits logouts sessions".split()],
)
def test_codes_stand_beside_their_phrases(page: str) -> None:
    named = re.findall(r"\b(\d{4})\s`(\w+)`", PAGES[page])
    assert named
    assert {(int(code), phrase) for code, phrase in named} <= {
        (reason.close_code, reason.phrase) for reason in Reason
    }
