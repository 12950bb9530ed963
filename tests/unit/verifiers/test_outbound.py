"""Outbound: whom it asks, and what it takes for an answer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import pytest
from cases import cases
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from issuer import Issuer, certificate, few_bytes, issuing
from servers import DEADLINE, HERE

from asgi_wsauth import JWKS, ConfigurationError, JWTVerifier, TokenIntrospection
from asgi_wsauth.verifiers.outbound import Outbound, Unreachable

pytestmark = pytest.mark.anyio

SOON = 0.1  # seconds: the timeout of what is meant to time out


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.pages["/page"] = {"a": [1]}
        issuer.keep()
        yield issuer


def outbound(url: Any = "https://id.example", **options: Any) -> Outbound:
    return Outbound(
        "Part", url, **{"timeout": DEADLINE, "max_size": 65_536, "max_in_flight": 5, **options}
    )


async def got(issuer: Issuer, path: str = "/page", **options: Any) -> Any:
    """What a new one gets there."""
    return await outbound(issuer.url, **options).get(issuer.url + path)


async def failure(asking: Any) -> str:
    """Why there is no answer."""
    with pytest.raises(Unreachable) as caught:
        await asking
    text = str(caught.value)
    assert text.isascii() and text.isprintable() and 0 < len(text) < 300
    # What httpx2 raised has the request in it.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def served(body: bytes, *headers: bytes) -> bytes:
    """A whole HTTP answer that ends with the connection."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", *headers, b"", body])


# Whom it asks


@cases(
    "url",
    [
        "https://id.example",
        "https://id.example:8443/keys?tenant=a",
        "HTTPS://ID.EXAMPLE/keys",
        "https://127.0.0.1/keys",
        "https://[2001:db8::1]/keys",
        "http://localhost",
        "http://localhost:8080/keys",
        "HTTP://LOCALHOST/keys",
        "http://127.0.0.1",
        "http://127.5.5.5:1/keys",
        "http://[::1]/keys",
    ],
)
def test_https_is_safe_and_so_is_this_machine(url: str) -> None:
    outbound(url)


@cases(
    "url",
    [
        "http://id.example/keys",
        "HTTP://id.example/keys",
        "http://localhost.evil.example",
        "http://evil.localhost",
        "http://127.0.0.1.nip.io",
        "http://127.0.0.1@evil.example",
        "http://localhost:80@evil.example/",
        "http://evil.example/#@127.0.0.1",
        "http://evil.example?@127.0.0.1",
        "http://evil.example\\@127.0.0.1",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "http://127.1",
        "http://2130706433",
        "http://[::]",
        "http://",
        "file:///etc/passwd",
        "file://localhost/etc/passwd",
        "ftp://id.example/keys",
        "ws://127.0.0.1/keys",
        "data:application/json,{}",
        "id.example/keys",
        "localhost",
        "//x",
        "/keys",
        "",
        " ",
        "https://id.example/\nx",
        "https://id.example:port/",
        "https://[::1/",
        None,
        5,
        b"https://id.example",
    ],
    ids=repr,
)
def test_every_other_address_is_an_error_when_it_is_built(url: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        outbound(url)
    text = str(caught.value)
    assert text.startswith("Part: ")
    assert "url must be a URL, for example https://id.example/keys, got " in text
    assert "URL(" not in text and "allow_http" not in text
    assert text.isprintable()


@cases("url", ["https://", "https:///keys", "https://:443/keys", "https://?x"])
def test_an_address_without_a_host_is_an_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Part: "):
        outbound(url)


@cases(
    "url",
    ["https://me:pa55@id.example/keys", "http://me:pa55@127.0.0.1/keys", "https://me@id.example"],
)
def test_an_address_with_a_user_is_an_error_that_hides_the_password(url: str) -> None:
    """Addresses stand in logs, and httpx2 would send this in place of other credentials."""
    with pytest.raises(ConfigurationError, match="Part: ") as caught:
        outbound(url)
    assert "pa55" not in str(caught.value)


def test_an_address_is_a_string() -> None:
    with pytest.raises(ConfigurationError, match="Part: "):
        outbound(httpx2.URL("https://id.example"))


@cases(
    ("first", "url"),
    [
        ("https://id.example", "http://id.example/keys"),
        ("https://id.example", "http://127.0.0.1:{port}/page"),
        ("https://id.example", "http://localhost:{port}/page"),
        ("http://127.0.0.1", "http://id.example/keys"),
        ("http://127.0.0.1", "file:///etc/passwd"),
        ("http://127.0.0.1", "//127.0.0.1:{port}/page"),
        ("http://127.0.0.1", ""),
        ("http://127.0.0.1", "http://127.0.0.1:{port}/page\n"),
        ("http://127.0.0.1", "http://[::1"),
        ("http://127.0.0.1", "http://127.0.0.1:é\u202e/"),
        ("http://127.0.0.1", f"http://127.0.0.1:{'x' * 1000}/"),
    ],
)
async def test_no_document_leads_elsewhere(issuer: Issuer, first: str, url: str) -> None:
    """Neither out of https, nor from another machine back to this one."""
    port = issuer.url.rpartition(":")[2]
    await failure(outbound(first).get(url.format(port=port)))
    assert not issuer.connections


async def test_a_redirect_is_no_answer(issuer: Issuer) -> None:
    issuer.pages["/elsewhere"] = {}
    issuer.behaviour["/page"] = "redirect"
    assert (await failure(got(issuer))).startswith("HTTP 302")
    assert [request.path for request in issuer.requests] == ["/page"]


@cases("option", ["timeout", "max_size", "max_in_flight"])
@cases("number", [0, -1, float("nan"), float("inf"), None, "5", True])
def test_numbers_that_can_not_work(option: str, number: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"Part: {option}"):
        outbound(**{option: number})


@cases("missing", ["httpx2", "httpcore2"])
@cases(
    "build",
    [
        lambda: JWKS("https://id.example/keys"),
        lambda: JWTVerifier.from_oidc("https://id.example", algorithms=["RS256"], audience="a"),
        lambda: TokenIntrospection("https://id.example", client_id="a", client_secret="b"),
    ],
    ids=["JWKS", "from_oidc", "TokenIntrospection"],
)
def test_without_httpx_the_error_names_the_extra(
    build: Callable[[], Any], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigurationError, match=r"'asgi-wsauth\[jwks\]'"):
        build()


# Proxies


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What a proxy is asked that everybody is told to use. It answers nothing."""
    asked: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            with connection:
                asked.append(connection.recv(1000).partition(b"\r\n")[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        for name in PROXIES:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            monkeypatch.setenv(name, url)
            monkeypatch.setenv(name.lower(), url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield asked
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(DEADLINE)


async def test_this_machine_is_asked_without_the_proxy(issuer: Issuer, proxy: list[bytes]) -> None:
    assert await got(issuer) == {"a": [1]}
    assert not proxy


async def test_other_machines_are_asked_through_the_proxy(proxy: list[bytes]) -> None:
    url = "https://id.example/keys"
    await failure(outbound(url).get(url))
    assert proxy == [b"CONNECT id.example:443 HTTP/1.1"]


# TLS


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Issuer, Path]]:
    """An issuer that speaks TLS, and the file of a certificate that nobody trusts by itself."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    key = ec.generate_private_key(ec.SECP256R1())
    cert_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_file.write_bytes(certificate(key).public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key_file.write_bytes(pem)
    with issuing((str(cert_file), str(key_file))) as issuer:
        issuer.pages["/page"] = {"a": [1]}
        yield issuer, cert_file


async def test_a_certificate_of_a_known_authority(
    https: tuple[Issuer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    assert await got(issuer) == {"a": [1]}


async def test_this_machine_is_asked_without_the_proxy_with_tls_too(
    https: tuple[Issuer, Path], proxy: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    assert await got(issuer) == {"a": [1]}
    assert not proxy


@pytest.mark.both_loops
async def test_a_certificate_of_nobody(https: tuple[Issuer, Path]) -> None:
    """The words say it on both event loops; on trio they are those of a cause."""
    issuer, _ = https
    why = await failure(got(issuer))
    assert why.startswith("ConnectError: ")
    assert "certificate verify failed" in why.lower().replace("_", " ")
    assert not issuer.requests


async def test_a_certificate_of_another_host(
    https: tuple[Issuer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    url = issuer.url.replace("127.0.0.1", "localhost")
    assert "ConnectError" in await failure(outbound(url).get(f"{url}/page"))
    assert not issuer.requests


async def test_what_began_without_tls_trusts_no_certificate(
    https: tuple[Issuer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    asking = outbound("http://127.0.0.1").get(f"{issuer.url}/page")
    assert "ConnectError" in await failure(asking)
    assert not issuer.requests


async def test_a_server_without_tls_is_not_asked(issuer: Issuer) -> None:
    url = issuer.url.replace("http:", "https:")
    assert "ConnectError" in await failure(outbound(url).get(f"{url}/page"))
    assert not issuer.requests


# What it sends


async def test_a_get(issuer: Issuer) -> None:
    await got(issuer)
    (request,) = issuer.requests
    assert (request.method, request.path, request.form) == ("GET", "/page", {})
    assert request.headers["accept"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert {"authorization", "cookie"}.isdisjoint(request.headers)


async def test_a_post(issuer: Issuer) -> None:
    form = {"a": "+ &=%é", "b": ""}
    await outbound(issuer.url).post(f"{issuer.url}/page", form, {"authorization": "Basic eA=="})
    (request,) = issuer.requests
    assert (request.method, request.path, request.form) == ("POST", "/page", {"a": "+ &=%é"})
    assert request.headers["accept"] == "application/json"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"] == "Basic eA=="


async def test_cookies_are_not_kept(issuer: Issuer) -> None:
    issuer.behaviour["/page"] = "cookie"
    asking = outbound(issuer.url)
    for _ in range(3):
        assert await asking.get(f"{issuer.url}/page") == {"a": [1]}
    assert not any("cookie" in request.headers for request in issuer.requests)


# What is an answer


async def test_any_json_is_an_answer(issuer: Issuer) -> None:
    for value in ({}, {"a": [1, None, "é"]}, [], "text", 5, True, None):
        issuer.pages["/page"] = json.dumps(value).encode()
        assert await got(issuer) == value


async def test_everything_else_is_not(issuer: Issuer) -> None:
    asking = outbound(issuer.url)
    for body in (
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"<html>",
        b"{'a': 1}",
        b"\xff\xfe\xfd",
        b'"\xff"',
        b"\x00" * 100,
        b"[" * 60_000,
        b"9" * 60_000,
    ):
        issuer.pages["/page"] = body
        await failure(asking.get(f"{issuer.url}/page"))


async def test_no_status_but_200_is_an_answer(issuer: Issuer) -> None:
    asking = outbound(issuer.url)
    issuer.behaviour["/page"] = "raw"
    for status in (201, 202, 203, 204, 206, 300, 301, 304, 307, 400, 401, 403, 404, 429, 500, 503):
        head = f"HTTP/1.1 {status} Any\r\nLocation: {issuer.url}/elsewhere\r\n"
        body = b"" if status in (204, 304) else b"{}"
        issuer.pages["/page"] = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        assert (await failure(asking.get(f"{issuer.url}/page"))).startswith(f"HTTP {status}")
    assert {request.path for request in issuer.requests} == {"/page"}
    assert len(issuer.requests) == 16


CHUNKED = b"Transfer-Encoding: chunked"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@cases(("extra", "taken"), [(-1, True), (0, True), (1, False), (70_000, False), (2_000_000, False)])
@cases("framing", ["length", "chunks", "close"])
async def test_the_size_is_bounded_to_the_byte(
    issuer: Issuer, extra: int, taken: bool, framing: str
) -> None:
    size = 70_000
    body = b"{}".ljust(size + extra)
    issuer.behaviour["/page"] = "raw"
    parts = [part for part in (body[:size], body[size:]) if part]  # an empty one is the end
    issuer.pages["/page"] = {
        "length": served(body, b"Content-Length: %d" % len(body)),
        "chunks": served(b"".join(map(chunk, parts)) + chunk(b""), CHUNKED),
        "close": served(body),
    }[framing]
    if taken:
        assert await got(issuer, max_size=size) == {}
    else:
        assert await failure(got(issuer, max_size=size)) == f"it has more than {size} bytes"


async def test_what_is_beyond_the_size_is_not_waited_for(issuer: Issuer) -> None:
    issuer.behaviour["/page"] = "raw"
    issuer.pages["/page"] = served(b" " * 101, b"Content-Length: 1000000")
    assert await failure(got(issuer, max_size=100)) == "it has more than 100 bytes"


async def test_a_flood_ends_early_and_harms_nothing_after_it(issuer: Issuer) -> None:
    asking = outbound(issuer.url, max_in_flight=1)
    for _ in range(3):
        issuer.behaviour["/page"] = "flood"
        assert await failure(asking.get(f"{issuer.url}/page")) == "it has more than 65536 bytes"
        issuer.behaviour.clear()
        assert await asking.get(f"{issuer.url}/page") == {"a": [1]}


@cases("encoding", ["br", "zstd", "x", "identity, gzip", "gzip, gzip"])
async def test_what_is_compressed_in_another_way_is_not_read(issuer: Issuer, encoding: str) -> None:
    issuer.behaviour["/page"] = "raw"
    issuer.pages["/page"] = served(b"{}", f"Content-Encoding: {encoding}".encode())
    assert await failure(got(issuer)) == "it is compressed, which was not asked for"


def deflated(body: bytes, form: int) -> bytes:
    packing = zlib.compressobj(wbits=form)
    return packing.compress(body) + packing.flush()


GZIP, ZLIB, BARE = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS
UNPACKABLE = "it is compressed, and can't be unpacked"


@cases(
    ("encoding", "form"),
    [
        ("gzip", GZIP),
        ("GZip", GZIP),
        ("x-gzip", GZIP),
        ("deflate", ZLIB),
        ("deflate", BARE),
    ],
)
async def test_what_is_compressed_unasked_is_read(issuer: Issuer, encoding: str, form: int) -> None:
    """Some servers compress whatever they are asked."""
    head = f"Content-Encoding: {encoding}".encode()
    issuer.behaviour["/page"] = "raw"
    asking = outbound(issuer.url, max_size=1000)
    for body in (b"{}", b'\xef\xbb\xbf{"a": 1}', b"[]".ljust(1000)):
        issuer.pages["/page"] = served(deflated(body, form), head)
        assert await asking.get(f"{issuer.url}/page") == json.loads(body)
    for body in (b"[]".ljust(1001), b" " * 1_000_000):
        issuer.pages["/page"] = served(deflated(body, form), head)
        assert await failure(asking.get(f"{issuer.url}/page")) == "it has more than 1000 bytes"
    whole = deflated(b"{}".ljust(500), form)
    for body in (whole[:-1], whole + whole, whole + b"x", b"{}", b"", b"\xff\xff"):
        issuer.pages["/page"] = served(body, head)
        assert await failure(asking.get(f"{issuer.url}/page")) == UNPACKABLE


async def test_few_bytes_that_would_become_many(issuer: Issuer) -> None:
    """20 MB: no more of them is unpacked than is allowed."""
    issuer.behaviour["/page"] = "flood_compressed"
    few_bytes()  # made before, or it would count
    asking = outbound(issuer.url, max_size=100_000)
    tracemalloc.start()
    try:
        why = await failure(asking.get(f"{issuer.url}/page"))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert why == "it has more than 100000 bytes"
    assert most < 5_000_000


@cases("encoding", ["identity", "", " Identity "])
async def test_what_says_that_it_is_not_compressed_is_read(issuer: Issuer, encoding: str) -> None:
    issuer.behaviour["/page"] = "raw"
    issuer.pages["/page"] = served(b"{}", f"Content-Encoding: {encoding}".encode())
    assert await got(issuer) == {}


# What an option allows


async def test_http_to_any_host_is_allowed_by_an_option(issuer: Issuer) -> None:
    inner = issuer.url.replace("127.0.0.1", "0.0.0.0")
    await failure(outbound(issuer.url).get(f"{inner}/page"))
    asking = outbound("http://keycloak:8080/x", allow_http=True)
    assert await asking.get(f"{inner}/page") == {"a": [1]}
    issuer.behaviour["/page"] = "redirect"
    assert (await failure(asking.get(f"{inner}/page"))).startswith("HTTP 302")
    for url in ("file:///etc/passwd", "ftp://keycloak/x", "http://me:pa55@keycloak/x", "//x"):
        await failure(asking.get(url))
        with pytest.raises(ConfigurationError, match="Part: "):
            outbound(url, allow_http=True)


async def test_what_began_with_allowed_http_trusts_the_authorities_over_https(
    https: tuple[Issuer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    asking = outbound("http://keycloak:8080", allow_http=True)
    assert await asking.get(f"{issuer.url}/page") == {"a": [1]}


async def issued() -> str:
    return "s3cr3t"


SECRET_HEADER = {"authorization": "Bearer s3cr3t", "X-Tenant": "a"}


async def test_headers_are_sent(issuer: Issuer) -> None:
    headers = dict(SECRET_HEADER)
    asking = outbound(issuer.url, headers=headers)
    headers.clear()
    assert await asking.get(f"{issuer.url}/page") == {"a": [1]}
    assert issuer.requests[0].headers["authorization"] == "Bearer s3cr3t"
    assert issuer.requests[0].headers["x-tenant"] == "a"
    assert "s3cr3t" not in repr(asking)


async def test_a_function_gives_a_header_its_current_value(issuer: Issuer) -> None:
    """A pod's own token is renewed each hour."""
    values: Any = iter(["Bearer s3cr3t-1", "Bearer s3cr3t-2", "Bearer s3cr3t-3\n", 5, b"s3cr3t"])
    asking = outbound(issuer.url, headers={"authorization": lambda: next(values)})
    for number in (1, 2):
        assert await asking.get(f"{issuer.url}/page") == {"a": [1]}
        sent = [request.headers["authorization"] for request in issuer.requests]
        assert sent[-1] == f"Bearer s3cr3t-{number}"
    assert await failure(asking.get(f"{issuer.url}/page")) == (
        "header authorization must be visible ASCII, without a newline or a space at either end; "
        "if it comes from a file, write .strip() after what reads it"
    )
    for kind in ("an int", "a bytes"):
        told = await failure(asking.get(f"{issuer.url}/page"))
        assert told == f"header authorization must be a string, got {kind}"
    assert len(issuer.requests) == 2


async def test_nothing_is_asked_without_a_header_that_can_not_be_had(issuer: Issuer) -> None:
    def gone() -> str:
        raise FileNotFoundError("s3cr3t")

    asking = outbound(issuer.url, headers={"authorization": gone}, allow_http=True)
    assert await failure(asking.get(f"{issuer.url}/page")) == "FileNotFoundError"
    assert issuer.requests == []
    there = issuer.url.replace("127.0.0.1", "localhost")
    assert await asking.get(f"{there}/page") == {"a": [1]}  # where it would not be sent


async def test_over_http_headers_go_nowhere_else(issuer: Issuer) -> None:
    there = issuer.url.replace("127.0.0.1", "localhost")
    asking = outbound(issuer.url, headers=SECRET_HEADER, allow_http=True)
    assert await asking.get(f"{there}/page") == {"a": [1]}
    assert "authorization" not in issuer.requests[0].headers


async def test_over_https_headers_go_where_a_document_leads(
    https: tuple[Issuer, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes names its keys at another address than its issuer."""
    issuer, cert_file = https
    monkeypatch.setenv("SSL_CERT_FILE", str(cert_file))
    asking = outbound("https://kubernetes.default.svc", headers=SECRET_HEADER)
    assert await asking.get(f"{issuer.url}/page") == {"a": [1]}
    assert issuer.requests[0].headers["authorization"] == "Bearer s3cr3t"


@cases(
    ("headers", "named"),
    [
        (None, "got None"),
        ("authorization: x", "got a str"),
        ([("authorization", "s3cr3t")], "got a list"),
        ({5: "s3cr3t"}, "got 5"),
        ({"": "s3cr3t"}, "got ''"),
        ({"a b": "s3cr3t"}, "got 'a b'"),
        ({"a": None}, "a must be a string, got None"),
        ({"a": b"s3cr3t"}, "a must be a string, got a bytes"),
        ({"a": str}, "a must be a function, got the class str"),
        ({"a": lambda token: token}, "a must be a function that can be called with no argument"),
        ({"a": issued}, "a must be a plain function, not an async one"),
        *[
            ({"a": f"{value}"}, "a must be visible ASCII")
            for value in ("s3cr3t\n", " s3cr3t", "s3cr3t ", "s3cr3t\r\nb: c", "s3cr3té", "")
        ],
    ],
)
def test_headers_that_can_not_be_sent(headers: Any, named: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^Part: headers") as caught:
        outbound(headers=headers)
    assert named in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@cases("allowed", [None, 1, "yes"])
def test_allow_http_is_yes_or_no(allowed: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^Part: allow_http must be True or False, got "):
        outbound(allow_http=allowed)


@cases("how", ["hang", "hold", "drip", "drip_headers"])
async def test_what_is_slow_ends_at_the_timeout(issuer: Issuer, how: str) -> None:
    issuer.behaviour["/page"] = how
    assert await failure(got(issuer, timeout=SOON)) == f"no answer within {SOON} s"


async def test_the_wait_for_others_counts_too(issuer: Issuer) -> None:
    issuer.behaviour["/page"] = "hold"
    asking = outbound(issuer.url, timeout=SOON, max_in_flight=1)
    failures: list[str] = []

    async def ask() -> None:
        failures.append(await failure(asking.get(f"{issuer.url}/page")))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert failures == [f"no answer within {SOON} s"] * 5


@pytest.mark.both_loops
async def test_nobody_listens() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # so that nobody else is given this port
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        assert (await failure(outbound(url).get(url))).startswith("ConnectError: ")


NASTY = b"\x1b[31m\x07\x08\xe2\x80\xae"  # escape sequences, and a sign that turns text around


@cases(
    "answer",
    [
        b"",
        b"\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n{",
        b"HTTP/1.1 200 " + NASTY + b"\r\n\r\n{",
        b"HTTP/1.1 500 " + NASTY + b"\r\n\r\n",
        NASTY + b" 200 OK\r\n\r\n{}",
        NASTY * 1000 + b"\r\n\r\n",
        NASTY * 100_000,
        b"HTTP/1.1 2\r\n00 OK\r\n\r\n{}",
        served(b"{", b"X: " + NASTY),
        served(b"{}", NASTY + b": x"),
        served(b"{}", b"no header"),
        served(b"{}", b"Content-Length: " + NASTY),
        served(b"{}", b"Content-Length: 5"),
        served(b"{}", b"Content-Length: 1", b"Content-Length: 2"),
        served(b"{}", b"Content-Encoding: " + NASTY),
        served(NASTY + b"\r\n{}", CHUNKED),
        served(b"ffffffffffffffffffff\r\n{}", CHUNKED),
        served(NASTY),
        served(b'{"a": "' + NASTY + b"\n"),
        served(b"{}", *[b"X-%d: %b" % (i, b"x" * 1000) for i in range(1000)]),
    ],
    ids=lambda answer: repr(answer[:40]),
)
async def test_whatever_a_server_says_the_failure_is_one_short_line(
    issuer: Issuer, answer: bytes
) -> None:
    issuer.behaviour["/page"], issuer.pages["/page"] = "raw", answer
    await failure(got(issuer))


async def test_a_failure_does_not_repeat_what_a_server_says(issuer: Issuer) -> None:
    """It may be the token that it was asked about."""
    issuer.behaviour["/page"] = "raw"
    for answer in (b"t0k3n\r\n\r\n", b"HTTP/1.1 t0k3n\r\n\r\n", served(b"{}", b"t0k3n")):
        issuer.pages["/page"] = answer
        assert "t0k3n" not in await failure(got(issuer))


# Connections


async def test_a_connection_serves_many_requests(issuer: Issuer) -> None:
    asking = outbound(issuer.url)
    for _ in range(10):
        assert await asking.get(f"{issuer.url}/page") == {"a": [1]}
        assert await asking.post(f"{issuer.url}/page", {}, {}) == {"a": [1]}
    assert (len(issuer.requests), issuer.connections) == (20, 1)


async def test_a_connection_that_the_server_closed_is_replaced(issuer: Issuer) -> None:
    asking = outbound(issuer.url, max_in_flight=1)
    for behaviour in ("hang_up", "no_http", "fail", "rubbish", "redirect"):
        issuer.behaviour["/page"] = behaviour
        await failure(asking.get(f"{issuer.url}/page"))
        issuer.behaviour.clear()
        assert await asking.get(f"{issuer.url}/page") == {"a": [1]}


async def test_there_are_no_more_connections_than_requests_may_be_in_flight(issuer: Issuer) -> None:
    asking = outbound(issuer.url, max_in_flight=3)
    issuer.behaviour["/page"] = "hold"
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await asking.get(f"{issuer.url}/page"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
        await issuer.asked("/page", 3)
        issuer.let_go()
    assert answers == [{"a": [1]}] * 10
    assert issuer.most_in_flight == issuer.connections == 3


@pytest.mark.usefixtures("little_to_collect")
def test_several_event_loops_at_once_share_no_connection(issuer: Issuer) -> None:
    asking = outbound(issuer.url)
    answers: list[Any] = []

    async def ask() -> None:
        for _ in range(5):
            answers.append(await asking.get(f"{issuer.url}/page"))

    def run(backend: str) -> None:
        anyio.run(ask, backend=backend)

    threads = [Thread(target=run, args=(backend,)) for backend in ("asyncio", "trio") * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert answers == [{"a": [1]}] * 20
    assert issuer.connections == 4


LOOPS = """
import gc, logging, sys
import anyio
sys.path.insert(0, sys.argv[1])
from issuer import issuing
from asgi_wsauth.verifiers.outbound import Outbound, Unreachable

logging.getLogger("asyncio").setLevel("ERROR")  # it warns of what takes long

async def use():
    assert await asking.get(issuer.url + "/jwks") == {"keys": []}
    try:
        await asking.get(issuer.url + "/nothing")
    except Unreachable:
        pass
    seen = issuer.count("/held")
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(asking.get, issuer.url + "/held")
        await issuer.asked("/held", seen + 2)
        group.cancel_scope.cancel()
    assert await asking.get(issuer.url + "/jwks") == {"keys": []}

with issuing() as issuer:
    issuer.behaviour["/held"] = "hold"
    asking = Outbound("Part", issuer.url, timeout=10, max_size=1000, max_in_flight=2)
    for backend in ("asyncio", "asyncio", "trio", "trio", "asyncio"):
        anyio.run(use, backend=backend)
        gc.collect()
    del asking
    gc.collect()
print("done")
"""


@pytest.mark.live
def test_an_event_loop_that_ends_closes_its_connections() -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LOOPS, str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=6 * DEADLINE)
    assert (done.stderr, done.stdout) == ("", "done\n")


def test_the_server_sees_that_an_event_loop_has_ended(issuer: Issuer) -> None:
    """So its connections are closed, and not only forgotten."""
    asking = outbound(issuer.url)
    for backend in ("asyncio", "trio"):
        anyio.run(asking.get, f"{issuer.url}/page", backend=backend)
        with issuer.changed:
            assert issuer.changed.wait_for(lambda: not issuer.open, DEADLINE)
    assert issuer.connections == 2
