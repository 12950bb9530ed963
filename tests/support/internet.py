"""A stand-in for the servers of providers: whatever address is asked for, over TLS, one server on
this machine answers, so that code with real addresses runs as it is.

    with internet(directory, "id.acme.example") as web:
        web.pages["https://id.acme.example/jwks"] = {"keys": [...]}

It is the proxy that `HTTPS_PROXY` names, and ends the TLS of all hosts with a certificate that
`SSL_CERT_FILE` trusts.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from issuer import Handler, Issuer, certificate, issuing

__all__ = ["internet"]


class _Proxy(Handler):
    """Takes tunnels to any host, and answers in their place."""

    tls: ssl.SSLContext
    host = ""

    def do_CONNECT(self) -> None:
        self.send_response_only(200)
        self.end_headers()
        self.host = f"https://{self.path.removesuffix(':443')}"
        self.connection = self.tls.wrap_socket(self.connection, server_side=True)
        self.rfile = self.connection.makefile("rb")
        self.wfile = self.connection.makefile("wb")  # type: ignore[assignment]
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if self.host and parsed:
            self.path = f"{self.host}{self.path}"
        return parsed


@contextmanager
def internet(directory: Path, *hosts: str) -> Iterator[Issuer]:
    """Start it; its `pages` and `requests` have whole addresses in place of paths.

    Args:
        directory: for its certificate.
        hosts: those that there are.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    trusted, private = directory / "trusted.pem", directory / "private.pem"
    trusted.write_bytes(certificate(key, hosts=hosts).public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(trusted, private)
    with issuing(handler=type("Proxy", (_Proxy,), {"tls": tls})) as web:
        environment: dict[str, Any] = {"HTTPS_PROXY": web.url, "SSL_CERT_FILE": str(trusted)}
        with mock.patch.dict(os.environ, environment):
            for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "https_proxy"):
                os.environ.pop(name, None)
            yield web
