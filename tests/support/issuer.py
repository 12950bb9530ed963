"""An identity provider on this machine: a real HTTP server whose keys rotate, and that can be told
to fail.

    with issuing() as issuer:
        issuer.add_key("1")
        JWTVerifier(JWKS(f"{issuer.url}/jwks"), algorithms=["ES256"])
        issuer.token("1", sub="alice")

What it answers at which path:

    /jwks                                keys as a JWK Set
    /certificates                        keys as a JSON object of kid -> certificate, like Firebase
    /x5c                                 keys as a JWK Set that has certificates only
    /.well-known/openid-configuration    where the keys are
    /introspect                          what it knows of a token (RFC 7662)

and whatever else a test puts into `pages`.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address
from threading import Condition, Event, Thread
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from anyio import to_thread
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from handshakes import mint
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from servers import DEADLINE

# How it can be told to fail: see `Handler.answer_...`.
FAILURES = (
    "fail hang hang_up redirect drip drip_headers flood flood_compressed rubbish no_http".split()
)


class Request(NamedTuple):
    """What the issuer was asked."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]
    body: str


class Issuer:
    """What a test sees of it.

    Attributes:
        requests: all that it was asked, in order.
        keys: `kid` -> private key, as published. Tokens can be signed with others, too.
        pages: path -> JSON or bytes, in place of what it would answer by itself.
        behaviour: how it answers: a path's own, or that of "*". One of the methods of `Handler`
            that begin with `answer_`.
        tokens: opaque token -> what introspection says of it.
        connections: how many were opened to it.
        open: how many of them are.
    """

    def __init__(self, scheme: str, port: int) -> None:
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.requests: list[Request] = []
        self.keys: dict[str, Any] = {}
        self.pages: dict[str, Any] = {}
        self.behaviour: dict[str, str] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.in_flight = self.most_in_flight = self.connections = self.open = 0
        self.changed = Condition()
        self.over = Event()
        self._held = 0
        self.keep()

    def keep(self) -> None:
        """Remember what it has now for `clear`."""
        self._kept = {name: dict(getattr(self, name)) for name in ("keys", "pages", "tokens")}

    def clear(self) -> None:
        """Forget what it was asked, and all that a test changed."""
        self.let_go()
        with self.changed:
            self.requests.clear()
            self.behaviour = {}
            self.most_in_flight = self.connections = 0
            for name, kept in self._kept.items():
                setattr(self, name, dict(kept))

    # Keys and tokens

    def add_key(self, kid: str, key: Any = None) -> Any:
        """Publish a key; an EC one for ES256, if none is given."""
        self.keys[kid] = key or ec.generate_private_key(ec.SECP256R1())
        return self.keys[kid]

    def token(self, kid: str | None, key: Any = None, **claims: Any) -> str:
        """A good token at `handshakes.NOW`, signed with the key of that name, or this key."""
        key = key or self.keys[kid or ""]
        algorithm = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "RS256"
        return mint(key, algorithm=algorithm, headers={"kid": kid} if kid else {}, **claims)

    # What it was asked

    def count(self, path: str) -> int:
        """How often it was asked for this."""
        with self.changed:
            return self._count(path)

    def wait_for(self, path: str, times: int = 1) -> None:
        """Wait until it was asked for this so often."""
        with self.changed:
            assert self.changed.wait_for(lambda: self._count(path) >= times, DEADLINE), (
                self.requests
            )

    async def asked(self, path: str, times: int = 1) -> None:
        """The same, for the tests that an event loop runs."""
        await to_thread.run_sync(self.wait_for, path, times)

    def _count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    # How it answers

    def let_go(self) -> None:
        """Let the requests that are held go on, and those to come."""
        with self.changed:
            self.behaviour = {path: how for path, how in self.behaviour.items() if how != "hold"}
            self._held += 1
            self.changed.notify_all()

    def page(self, request: Request) -> Any:
        if request.path in self.pages:
            return self.pages[request.path]
        if request.path == "/jwks":
            return {"keys": [jwk(key, kid) for kid, key in self.keys.items()]}
        if request.path == "/certificates":
            certificates = ((kid, certificate(key)) for kid, key in self.keys.items())
            return {kid: made.public_bytes(Encoding.PEM).decode() for kid, made in certificates}
        if request.path == "/x5c":
            return {"keys": [x5c(key, kid) for kid, key in self.keys.items()]}
        if request.path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        if request.path == "/introspect":
            return self.tokens.get(request.form.get("token", ""), {"active": False})
        return None


@cache
def few_bytes() -> bytes:
    """That would become many: 20 MB."""
    return gzip.compress(b" " * 20_000_000)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a body waits until the client acknowledged the headers
    issuer: Issuer

    def setup(self) -> None:
        super().setup()
        with self.issuer.changed:
            self.issuer.connections += 1
            self.issuer.open += 1

    def finish(self) -> None:
        super().finish()
        with self.issuer.changed:
            self.issuer.open -= 1
            self.issuer.changed.notify_all()

    def do_GET(self) -> None:
        issuer = self.issuer
        body = self.rfile.read(int(self.headers.get("content-length", "0"))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, form, body)
        page = issuer.page(request)  # what is true now; an answer that is held is an old one
        with issuer.changed:
            how = issuer.behaviour.get(self.path, issuer.behaviour.get("*", "serve"))
            self.held = issuer._held
            issuer.requests.append(request)
            self.in_flight = True
            issuer.in_flight += 1
            issuer.most_in_flight = max(issuer.most_in_flight, issuer.in_flight)
            issuer.changed.notify_all()
        try:
            with suppress(OSError):  # a client that has had enough
                getattr(self, f"answer_{how}")(page)
        finally:
            self.land()

    do_POST = do_GET

    def land(self) -> None:
        """The request is in flight no more: a client that has its answer may send another one."""
        with self.issuer.changed:
            self.issuer.in_flight -= self.in_flight
            self.in_flight = False

    def answer_serve(self, page: Any, status: int = 200, **headers: str) -> None:
        status = 404 if page is None else status
        body = page if isinstance(page, bytes) else json.dumps(page).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.land()
        self.end_headers()
        self.wfile.write(body)

    def answer_hold(self, page: Any) -> None:
        """Answers when the test says `let_go()`, with what was true when it was asked."""
        issuer = self.issuer
        with issuer.changed:
            issuer.changed.wait_for(lambda: issuer._held > self.held, 3 * DEADLINE)
        self.answer_serve(page)

    def answer_fail(self, page: Any) -> None:
        self.answer_serve(page, 500)

    def answer_refuse(self, page: Any) -> None:
        self.answer_serve(page, 400)

    def answer_hang(self, page: Any) -> None:
        """Says nothing, until the client goes."""
        self.connection.settimeout(3 * DEADLINE)
        self.rfile.read(1)

    def answer_hang_up(self, page: Any) -> None:
        self.connection.close()
        self.close_connection = True

    def answer_redirect(self, page: Any) -> None:
        self.answer_serve(page, 302, Location=f"{self.issuer.url}/elsewhere")

    def answer_drip(self, page: Any) -> None:
        """A byte at a time, for as long as the client listens."""
        self.send_response(200)
        self.end_headers()
        for byte in json.dumps(page).encode() * 1000:
            self.wfile.write(bytes([byte]))
            if self.issuer.over.wait(0.05):
                return

    def answer_drip_headers(self, page: Any) -> None:
        self.send_response(200)
        for number in range(10_000):
            self.send_header(f"X-{number}", "x")
            self.flush_headers()
            if self.issuer.over.wait(0.05):
                return

    def answer_flood(self, page: Any) -> None:
        """50 MB."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        for _ in range(800):
            self.wfile.write(b" " * 65536)

    def answer_flood_compressed(self, page: Any) -> None:
        self.answer_serve(few_bytes(), Content_Encoding="gzip")

    def answer_rubbish(self, page: Any) -> None:
        self.answer_serve(b"<html>Bad Gateway</html>")

    def answer_raw(self, page: bytes) -> None:
        """Whatever the test put into `pages`, and nothing around it."""
        self.wfile.write(page)
        self.close_connection = True

    def answer_no_http(self, page: Any) -> None:
        self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def answer_cookie(self, page: Any) -> None:
        self.answer_serve(page, Set_Cookie="sticky=1")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass

    def serve(self, over: Event) -> None:
        """Until it is over: then one more connection wakes it, which it need not look out for."""
        while not over.is_set():
            self.handle_request()


@contextmanager
def issuing(
    certificate_and_key: tuple[str, str] | None = None, *, handler: type[Handler] = Handler
) -> Iterator[Issuer]:
    """Start an issuer on a free port, with TLS if there are files for it; stop it for sure."""
    handler = type("Handler", (handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        if certificate_and_key is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate_and_key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if certificate_and_key is None else "https"
        issuer = handler.issuer = Issuer(scheme, server.server_address[1])  # type: ignore[attr-defined]
        thread = Thread(target=server.serve, args=(issuer.over,), daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            issuer.over.set()
            issuer.let_go()
            socket.create_connection(server.server_address[:2], DEADLINE).close()
            thread.join(DEADLINE)


# The shapes of keys


def jwk(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """A key's public half as JWK."""
    kind = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    made = kind.to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, **({"kid": kid} if kid is not None else {}), "use": "sig", **more}


def certificate(
    key: Any,
    name: str = "issuer.test",
    *,
    address: str = "127.0.0.1",
    hosts: Iterable[str] = (),
    **dates: datetime,
) -> x509.Certificate:
    """A certificate that only carries a key, as issuers publish it: signed by itself."""
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    names = [x509.IPAddress(IPv4Address(address)), *map(x509.DNSName, hosts)]
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1)
    return (
        builder.not_valid_before(dates.get("begins", now - timedelta(days=1)))
        .not_valid_after(dates.get("ends", now + timedelta(days=1)))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
    )


def x5c(key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    """A key as JWK that has its certificate only (RFC 7517 section 4.7)."""
    kty = "EC" if isinstance(key, ec.EllipticCurvePrivateKey) else "RSA"
    der = certificate(key).public_bytes(Encoding.DER)
    return {"kty": kty, "kid": kid, "use": "sig", "x5c": [b64encode(der).decode()], **more}
