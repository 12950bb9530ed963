"""How the peer's address is read, and what proxies say of others: cases 12 and 45."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from asgi_wsauth.addresses import (
    UNREADABLE,
    client_host,
    comparable_host,
    forwarded_for,
    parse_address,
    share_of,
)


@pytest.mark.parametrize(
    ("client", "host"),
    [
        (("192.0.2.7", 5), "192.0.2.7"),
        (["192.0.2.7", 5], "192.0.2.7"),
        (("192.0.2.7:41234", 0), "192.0.2.7:41234"),
        (None, None),
        ((), None),
        (("", 0), None),
        (("", "0"), None),  # Granian on a Unix socket
        (("testclient", 50000), None),
        (("testclient", 50001), "testclient"),
        ((7, 5), UNREADABLE),
        (7, UNREADABLE),
        ({1: 2}, UNREADABLE),
    ],
)
def test_the_host_of_a_scope(client: Any, host: str | None) -> None:
    assert client_host({"client": client}) == host
    assert client_host({}) is None


@pytest.mark.parametrize(
    ("host", "address", "share"),
    [
        ("192.0.2.7", "192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:80", "192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:_port", "192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]:80", "192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::/64"),
        ("[2001:db8::1]:443", "2001:db8::1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("unknown", None, UNREADABLE),
        ("_hidden", None, UNREADABLE),
        ("_hidden:80", None, UNREADABLE),
        ("chat.example", None, UNREADABLE),
        ("192.0.2.7, 192.0.2.8", None, UNREADABLE),
        ("192.0.2.07", None, UNREADABLE),
    ],
)
def test_what_an_address_is_and_whose_share(host: str, address: str | None, share: str) -> None:
    parsed = parse_address(host)
    assert (None if parsed is None else str(parsed)) == address
    assert share_of(host) == share
    assert comparable_host(host) == (address or host.strip())


@pytest.mark.parametrize("host", [None, ""])
def test_who_has_no_address_has_no_share(host: str | None) -> None:
    assert share_of(host) is None
    assert comparable_host(host) == ""


@pytest.mark.parametrize(
    ("headers", "addresses"),
    [
        ([], []),
        ([("x-forwarded-proto", "https")], []),
        ([("X-Forwarded-For", "192.0.2.7")], ["192.0.2.7"]),
        ([("x-forwarded-for", "192.0.2.7:5, [::1]:6")], ["192.0.2.7", "::1"]),
        ([("x-forwarded-for", "a"), ("x-forwarded-for", "::1")], [None, "::1"]),
        ([("x-forwarded-for", "")], [None]),
        ([("x-real-ip", "::1")], ["::1"]),
        ([("forwarded", 'for="[2001:db8::1]:4711";proto=http')], ["2001:db8::1"]),
        ([("forwarded", "by=1;FOR=192.0.2.7, for=_x")], ["192.0.2.7", None]),
        ([("forwarded", "proto=http")], [None]),
        ([("forwarded", "therefor=192.0.2.7")], [None]),
    ],
)
def test_for_whom_proxies_say_they_ask(headers: Any, addresses: list[str | None]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    found = forwarded_for(Headers(raw=raw))
    assert [None if address is None else str(address) for address in found] == addresses
