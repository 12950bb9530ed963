"""The command line, without `probe` (see test_probe.py)."""

from __future__ import annotations

import io
import json
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jwt
import pytest
from cases import cases
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from handshakes import SECRET

from asgi_wsauth import APIKeyVerifier, Reason
from asgi_wsauth.cli import main
from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, GRAPHQL_CLOSE_CODES, advice


def run(*arguments: str, code: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m asgi_wsauth`, or some other code, as a process."""
    how = ["-c", code] if code else ["-m", "asgi_wsauth"]
    command = [sys.executable, "-W", "error", *how, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a wrong command is told."""
    code: object
    try:
        code = main(arguments)
    except SystemExit as exc:  # argparse's
        code = exc.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    return err


# key


def test_a_key_goes_to_stdout_and_its_digest_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["key"]) == 0
    out, err = capsys.readouterr()
    key = out.removesuffix("\n")
    assert re.fullmatch(r"wsk_[A-Za-z0-9_-]{43}", key)
    digest = f"sha256:{sha256(key.encode()).hexdigest()}"
    assert f'APIKeyVerifier({{"name": "{digest}"}})' in err
    assert key not in err
    APIKeyVerifier({"name": digest})


def test_a_key_and_its_digest_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    made = []
    for _ in range(2):
        assert main(["key", "--json"]) == 0
        out, err = capsys.readouterr()
        made.append(json.loads(out))
        assert err == ""
    assert made[0]["key"] != made[1]["key"]
    assert made[0]["digest"] == f"sha256:{sha256(made[0]['key'].encode()).hexdigest()}"


# token


def decoded(token: str, key: Any = SECRET, algorithm: str = "HS256") -> dict[str, Any]:
    options: Any = {"verify_aud": False, "verify_exp": False}
    return jwt.decode(token.strip(), key, algorithms=[algorithm], options=options)


def test_a_token_says_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    assert main(["token", "--key-env", "SECRET"]) == 0
    out, err = capsys.readouterr()
    claims = decoded(out)
    assert (set(claims), claims["sub"], err) == ({"sub", "iat", "exp"}, "alice", "")
    assert claims["exp"] - claims["iat"] == 300

    options = "--subject bob --scope chat --scope admin --audience a --issuer i --seconds -60"
    assert main(["token", "--key-env", "SECRET", "--kid", "1", *options.split()]) == 0
    token = capsys.readouterr().out.strip()
    claims = decoded(token)
    assert claims["exp"] - claims["iat"] == -60
    assert jwt.get_unverified_header(token)["kid"] == "1"
    assert {name: claims[name] for name in ("sub", "scope", "aud", "iss")} == {
        "sub": "bob",
        "scope": "chat admin",
        "aud": "a",
        "iss": "i",
    }


def test_a_key_comes_from_a_file_or_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (tmp_path / "key.pem").write_bytes(pem)
    options = ["token", "--algorithm", "ES256", "--key-file"]
    assert main([*options, str(tmp_path / "key.pem")]) == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(pem.decode()))
    assert main([*options, "-"]) == 0
    for token in capsys.readouterr().out.split():
        assert decoded(token, key.public_key(), "ES256")["sub"] == "alice"


def test_a_short_key_signs_and_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECRET", "short")
    assert main(["token", "--key-env", "SECRET"]) == 0
    assert "5 bytes" in capsys.readouterr().err


@cases(
    "arguments, why",
    [
        ([], "--key-env --key-file is required"),
        (["--key-env", "NOT_THERE"], "--key-env NOT_THERE: not set, or empty"),
        (["--key-file", "/not/there"], "/not/there: No such file or directory"),
        (["--key-env", "SECRET", "--algorithm", "none"], "invalid choice: 'none'"),
        (["--key-env", "SECRET", "--algorithm", "ES256"], "the key can't sign with ES256"),
        (["--key-env", "SECRET", "--key-file", "-"], "not allowed with"),
        (["--key", SECRET], "use --key-env NAME, or --key-file FILE"),
        (["--key-env", "SECRET", "--seconds", "soon"], "invalid float value"),
        (["--key-env", "SECRET", "--seconds", "inf"], "--seconds"),
    ],
)
def test_what_can_sign_nothing(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    why: str,
) -> None:
    monkeypatch.setenv("SECRET", SECRET)
    err = refused(capsys, "token", *arguments)
    assert why in err
    assert SECRET not in err


def test_a_key_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert "not a text file" in refused(capsys, "token", "--key-file", str(tmp_path / "key"))


# explain


@cases("reason", Reason)
def test_a_code_and_its_phrase_are_explained_from_the_table(
    reason: Reason, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(reason.close_code)]) == 0
    assert f"  for {reason.phrase}: {reason.advice}\n" in capsys.readouterr().out
    assert main(["explain", "4999", reason.phrase]) == 0
    out = capsys.readouterr().out
    assert f"{reason.phrase}: a reason of asgi-wsauth" in out
    assert out.endswith(f"The client should: {reason.advice}\n")
    if reason in DAPHNE_CLOSE_CODES:
        assert main(["explain", str(DAPHNE_CLOSE_CODES[reason])]) == 0
        assert f"  for {reason.phrase}, on Daphne: {reason.advice}" in capsys.readouterr().out
    if reason in GRAPHQL_CLOSE_CODES:
        assert main(["explain", str(GRAPHQL_CLOSE_CODES[reason])]) == 0
        assert f"  for {reason.phrase}, for GraphQL: {reason.advice}" in capsys.readouterr().out


@cases(
    "code, meaning",
    [
        (1000, "normal closure"),
        (1006, "no close was received"),
        (1012, "service restart"),
        (2999, "reserved"),
        (3000, "unauthorized"),
        (3500, "registered with IANA"),
        (4400, "private use"),
    ],
)
def test_every_other_code_is_explained_too(
    code: int, meaning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(code)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{code}: ") and meaning in out
    assert out.endswith(f"The client should: {advice(code)}\n")


UNUSED = "No reason of asgi-wsauth has this code; perhaps it is an app's own.\n"


def test_the_code_of_a_graphql_client_that_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "4408"]) == 0
    told = "  for token_missing, for GraphQL without connection_init: stop\n"
    assert told in capsys.readouterr().out


@cases("code", ["4000", "4003", "4999"])
def test_a_private_code_that_no_reason_has(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    assert out == f"{code}: private use\n{UNUSED}The client should: stop\n"


@cases(
    "arguments",
    [
        *([str(reason.close_code)] for reason in Reason),
        *([str(code)] for code in (*DAPHNE_CLOSE_CODES.values(), *GRAPHQL_CLOSE_CODES.values())),
        ["1000"],
        ["3500"],
        ["4003", "token_expired"],
        ["4003", "banned"],
    ],
)
def test_no_other_close_is_said_to_be_an_apps_own(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", *arguments]) == 0
    assert UNUSED not in capsys.readouterr().out


def test_a_reason_of_somebody_else_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "1008", "\x1b[31mno"]) == 0
    out = capsys.readouterr().out
    assert "not one of asgi-wsauth's" in out and "\x1b" not in out
    assert out.endswith("The client should: stop\n")


@cases("code", ["999", "5000", "x", "-1"])
def test_what_is_no_close_code(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "1000 to 4999" in refused(capsys, "explain", code) or code == "-1"


def test_an_argument_too_many_is_named_unless_it_looks_like_a_credential(
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = jwt.encode({"sub": "alice"}, SECRET)
    err = refused(capsys, "explain", "4001", "token_expired", "again", token, f"--x={token}")
    assert err.endswith("error: unrecognized arguments: again [redacted] --x=[redacted]\n")
    assert "invalid choice: '[redacted]'" in refused(capsys, token)
    assert "[redacted]: No such file" in refused(capsys, "token", "--key-file", token)


# probe, as far as it doesn't probe

URL = "ws://127.0.0.1:1/"


@cases(
    "arguments, why",
    [
        ([URL, "--token", "opensesame"], "use --token-env NAME, or --token-file FILE"),
        ([URL, "--token=opensesame"], "use --token-env NAME"),
        ([URL, "--key", "opensesame"], "use --key-env NAME, or --key-file FILE"),
        ([f"{URL}?token=opensesame"], "--token-env"),
        (["ws://alice:opensesame@127.0.0.1/"], "--token-env"),
        ([f"{URL}?key=opensesame", "--query", "key"], "--token-env"),
        (["http://127.0.0.1/"], "write it as ws://"),
        (["ws://127.0.0.1:99999/"], "write it as ws://"),
        (["ws:///path"], "write it as ws://"),
        ([f"{URL}#x"], "write it as ws://"),
        ([f"{URL}\x1b[31m"], "write it as ws://"),
        (["ws://[::1/"], "write it as ws://"),
        ([URL, "--token-env", "NOT_THERE"], "--token-env NOT_THERE: not set, or empty"),
        ([URL, "--token-env", "SPACED"], "don't fit in a query parameter token"),
        ([URL, "--token-env", "SEMICOLON", "--cookie", "c"], "don't fit in a cookie c"),
        ([URL, "--token-env", "SEMICOLON", "--subprotocol", "b"], "subprotocol behind b"),
        ([URL, "--cookie", "a b"], "Cookie: name must be one word"),
        ([URL, "--header", ""], "Header: name must be one word"),
        ([URL, "--query", "a", "--header", "b"], "not allowed with"),
        ([URL, "--origin", "chat.example"], "write https://chat.example"),
        ([URL, "--offer", "a b"], "Subprotocol: marker must be one word"),
        ([URL, "--timeout", "0"], "--timeout"),
        ([URL, "--patience", "nan"], "--patience"),
        ([URL, "--token-file", "-", "--key-file", "-"], "only one can be stdin"),
        ([URL, "--leeway", "-1"], "--leeway"),
        ([URL, "--watch", "inf"], "--watch"),
        ([URL, "--revoke-command", "true"], "needs a token to revoke: pass --key-env NAME"),
        ([URL, "--revoke-command", " ", "--key-env", "SPACED"], "--revoke-command is empty"),
        (
            [URL, "--revoke-command", "true", "--key-env", "SPACED", "--watch", "0"],
            "--watch must be above 0",
        ),
        ([], "URL"),
    ],
)
def test_what_can_be_no_probe(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    why: str,
) -> None:
    monkeypatch.setenv("SPACED", "open sesame")
    monkeypatch.setenv("SEMICOLON", "open;sesame")
    err = refused(capsys, "probe", *arguments)
    assert why in err
    assert "sesame" not in err and "\x1b" not in err


@cases("missing", ["rich", "websockets"])
def test_without_the_extra_probe_says_what_to_install(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == missing]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("probe", "watch", "findings", "endings", "report"):
        monkeypatch.delitem(sys.modules, f"asgi_wsauth.cli.{name}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    err = refused(capsys, "probe", URL)
    assert err.startswith(f"asgi-wsauth: probe: {missing}")
    assert err.endswith(" is missing; pip install 'asgi-wsauth[cli]'\n")
    assert main(["key"]) == main(["explain", "1008"]) == 0


@pytest.mark.live
def test_the_other_commands_load_neither_library() -> None:
    code = (
        "import sys; from asgi_wsauth.cli import main; main(['explain', '4001'])\n"
        "assert not {'rich', 'websockets'} & set(sys.modules)"
    )
    assert run(code=code).returncode == 0


def test_ctrl_c_ends_it_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"read": staticmethod(interrupted)}))
    assert main(["token", "--key-file", "-"]) == 130


@cases("command", ["", "probe", "check-token", "explain", "key", "token"])
def test_it_says_how_it_is_used(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"] if command else ["--help"])
    out = capsys.readouterr().out
    assert out.startswith(f"usage: asgi-wsauth {command}")


def test_it_says_which_version_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--version"])
    assert capsys.readouterr().out == f"asgi-wsauth {version('asgi-wsauth')}\n"
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["--help"])
    assert "  --version " in capsys.readouterr().out  # the reference shows this


def test_a_copy_that_is_not_installed_has_no_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert "asgi-wsauth is not installed\n" in refused(capsys, "--version")


def test_python_m_runs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asgi_wsauth", "explain", "4001"])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_module("asgi_wsauth", run_name="__main__", alter_sys=True)
    assert "4001" in capsys.readouterr().out


@pytest.mark.live
def test_it_runs_as_a_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "4001"]) == 0
    ended = run("explain", "4001")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, capsys.readouterr().out, "")
