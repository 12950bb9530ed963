"""docs/guides/command-line.md: what its commands print."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import jwt
import pytest
from handshakes import SECRET, mint, now
from internet import internet
from issuer import jwk
from keys import P256_KEY, P256_OTHER
from pages import PAGES, blocks
from programs import needed
from servers import serving

from asgi_wsauth import JWKS, APIKeyVerifier, Authenticator, JWTVerifier
from asgi_wsauth.cli import main
from asgi_wsauth.testing import make_jwt

PAGE = "docs/guides/command-line.md"
PROBE, ENDS, CHECK = blocks(PAGE, "console")


def shown(block: str) -> list[str]:
    """What it shows below its commands."""
    return [line.rstrip() for line in re.sub(r"^\$ .*?[^\\]\n", "", block, flags=re.M).splitlines()]


def test_check_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"2026-11": P256_KEY, "2026-12": P256_OTHER}
    claims = {"iss": "https://id.example", "aud": "chat", "token_use": "id", "exp": now() + 60}
    token = mint(P256_KEY, algorithm="ES256", headers={"kid": "2026-11"}, **claims)
    monkeypatch.setenv("TOKEN", token)
    command = shlex.split(CHECK.splitlines()[0])
    with internet(tmp_path, "id.example") as web:
        web.pages["https://id.example/keys"] = {
            "keys": [jwk(key, kid) for kid, key in keys.items()]
        }
        module = ModuleType("chat.app")
        vars(module)["auth"] = Authenticator(
            [
                APIKeyVerifier({"billing": "wsk_2kP9vQ7mX4tR8nL3cJ6hB1yZ5wF0dG"}),
                JWTVerifier(
                    JWKS("https://id.example/keys"),
                    algorithms=["ES256"],
                    issuer="https://id.example",
                    audience="chat",
                    claims={"token_use": "access"},
                ),
            ]
        )
        monkeypatch.setitem(sys.modules, "chat", ModuleType("chat"))
        monkeypatch.setitem(sys.modules, "chat.app", module)
        assert main(command[2:]) == 1
    printed = re.sub(r"(?<=^credential )\w+", "fe723c9ba0594bfd", capsys.readouterr().out)
    assert [line.rstrip() for line in printed.splitlines()] == shown(CHECK)


@pytest.mark.parametrize("name", ["explain", "token", "key"])
def test_small_things(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (command,) = re.findall(rf"^- `asgi-wsauth ({name}\b.*?)`", PAGES[PAGE], re.MULTILINE)
    monkeypatch.setenv("SECRET", SECRET)
    assert main(shlex.split(command)) == 0
    out, err = capsys.readouterr()
    if name == "explain":
        assert out.splitlines()[-1] == "The client should: refresh, with backoff"
    elif name == "token":
        claims = jwt.decode(out.strip(), SECRET, ["HS256"])
        assert (claims["sub"], claims["exp"] - claims["iat"]) == ("alice", 300)
    else:
        assert out.startswith("wsk_")
        assert "sha256:" in err


def words(text: str) -> str:
    """What was printed, however wide, without lines and times."""
    text = re.sub(r"\d+\.\d s (after|before) the (expiry|command)( ended)?", r"0 s of the \2", text)
    return " ".join(re.sub("\u2500+", "", text).split())


@pytest.mark.live
def test_probe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An endpoint whose login is Starlette's own, and one of this package that revokes."""
    needed("curl", "curl")  # the page's --revoke-command
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.setenv("TOKEN", make_jwt(SECRET, audience="chat"))
    monkeypatch.setenv("COLUMNS", "120")
    with serving("uvicorn-websockets", "probed:app") as server:
        for block, path in ((PROBE, "/starlette/"), (ENDS, "/ours/ends")):
            command = re.search(r"asgi-wsauth (probe .*?[^\\])\n", block, re.DOTALL)
            assert command is not None
            told = (
                command[1].replace("\\\n", "").replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
            )
            watch = ["--watch", "0"] if path == "/starlette/" else []
            main([*shlex.split(told.replace("/chat", path)), "--audience", "chat", *watch])
            printed = words(capsys.readouterr().out)
            for part in block[command.end() :].split("\n…\n"):
                assert words(part) in printed
