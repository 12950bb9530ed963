"""The command line: `python -m asgi_wsauth`, or `asgi-wsauth`.

    probe        shows what clients get from a running endpoint, how their sockets end, and what is
                 wrong with it
    check-token  says what an app makes of a token, check by check, and why
    explain      says what a close code means, and what a client should do
    key          makes an API key and its digest
    token        makes a short-lived JWT for tests

Exit codes: 0 nothing found, or the token is admitted; 1 `probe` found a client admitted that must
be refused, or the token is refused; 2 a wrong command, no endpoint or no authenticator; 3 `probe`
found only other problems, such as a lost close code.

Secrets come from the environment or a file, never from the arguments, which every user of the
machine can read. `probe` needs the extra `cli`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NoReturn, get_args

from jwt.algorithms import get_default_algorithms

from asgi_wsauth.cli.check_token import check_token, check_token_arguments
from asgi_wsauth.cli.codes import explained
from asgi_wsauth.cli.secrets import Parser, read_secret, secret_arguments, visible
from asgi_wsauth.cli.target import Carrier, Kind, Target
from asgi_wsauth.credential import API_KEY, new_secret
from asgi_wsauth.options import ConfigurationError, check_seconds, needs_extra
from asgi_wsauth.redaction import hidden
from asgi_wsauth.sources import Header, QueryParam, Subprotocol
from asgi_wsauth.testing import make_jwt
from asgi_wsauth.verifiers.keys import CANNOT_LOAD, why_unusable

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: its arguments; those of the process by default.

    Returns:
        The exit code, see above. A wrong argument raises `SystemExit(2)`, as argparse does.
    """
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if rest and args.run is check_token:  # among them may be the token
        parser.error(f"unrecognized arguments; if one is a token: {visible('token')}")
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        return int(args.run(args))
    except ConfigurationError as exc:
        return _fail(str(exc))
    except KeyboardInterrupt:
        return 130


def _fail(why: str) -> int:
    print(f"asgi-wsauth: {hidden(why)}", file=sys.stderr)
    return 2


# The arguments.


class _Version(argparse.Action):
    """Looks the version up only where somebody asks: without an installation there is none."""

    def __call__(self, parser: argparse.ArgumentParser, *given: Any, **more: Any) -> NoReturn:
        try:
            print(parser.prog, version("asgi-wsauth"))
        except PackageNotFoundError:
            parser.error("no version: asgi-wsauth is not installed")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "asgi-wsauth",
        description="Authentication for WebSockets: probe endpoints, check tokens, explain "
        "close codes.",
    )
    text = "show the version that is installed and exit"
    parser.add_argument("--version", action=_Version, nargs=0, help=text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.set_defaults(run=run)
        return added

    _probe_arguments(
        command("probe", _probe, "show what clients get from a running endpoint, and what is wrong")
    )
    examine = "say what an app makes of a token, check by check, and why"
    check_token_arguments(command("check-token", check_token, examine))
    explain = command(
        "explain", _explain, "say what a close code means, and what a client should do"
    )
    explain.add_argument("code", type=_close_code, metavar="CODE")
    explain.add_argument("reason", nargs="?", default="", metavar="REASON")
    key = command("key", _key, "make an API key (to stdout) and its digest (to stderr)")
    key.add_argument("--json", action="store_true", help="print both to stdout, as JSON")
    token = command("token", _token, "make a short-lived JWT for tests")
    secret_arguments(token, "key", "the key that signs it", required=True)
    _claims_arguments(token)
    token.add_argument("--seconds", type=float, default=300, help="until it expires (default: 300)")
    token.add_argument("--kid", help="the kid of the key, for the header")
    return parser


def _probe_arguments(probe: argparse.ArgumentParser) -> None:
    probe.epilog = (
        "Exit code: 0 nothing wrong was found, 1 a client is admitted that must be refused, "
        "2 a wrong command, or no endpoint, 3 only other problems were found."
    )
    probe.add_argument("url", metavar="URL", help="such as ws://127.0.0.1:8000/ws")
    secret_arguments(
        probe, "token", "a valid token, for everything that can't be tested without one"
    )
    secret_arguments(probe, "key", "the key of the endpoint's JWTs, to make some that expire")
    _claims_arguments(probe)
    where = probe.add_argument_group("where the token travels").add_mutually_exclusive_group()
    for kind, name, default, text in (
        ("query", "NAME", QueryParam().name, "a query parameter"),
        ("header", "NAME", Header().name, "a header; after Bearer in Authorization"),
        ("subprotocol", "MARKER", Subprotocol().marker, "the subprotocol after this one"),
    ):
        told = f"{text} (default: {default})"
        where.add_argument(
            f"--{kind}", metavar=name, nargs="?", const=default, type=_name, help=told
        )
    where.add_argument("--cookie", metavar="NAME", type=_name, help="a cookie")
    where.add_argument(
        "--first-message",
        action="store_const",
        const="",
        help='the first message, {"type": "auth", "token": ...}',
    )
    client = probe.add_argument_group("the clients")
    client.add_argument("--origin", help="the origin of its pages; all others must be refused")
    client.add_argument(
        "--offer", action="append", default=[], metavar="NAME", help="a subprotocol they offer"
    )
    client.add_argument(
        "--timeout", type=float, default=5, help="of a handshake, in seconds (default: 5)"
    )
    client.add_argument(
        "--patience",
        type=float,
        default=1,
        help="seconds after which a socket that is still open counts as admitted (default: 1)",
    )
    _watch_arguments(probe)
    probe.add_argument("--json", action="store_true", help="print the result as JSON")


def _watch_arguments(probe: argparse.ArgumentParser) -> None:
    watch = probe.add_argument_group(
        "how a socket ends",
        "With the key, one is opened whose token expires after some seconds, and watched.",
    )
    watch.add_argument(
        "--leeway",
        type=float,
        default=30,
        help="seconds after exp for which the endpoint still takes a token (default: 30)",
    )
    watch.add_argument(
        "--watch",
        type=float,
        default=10,
        metavar="SECONDS",
        help="for which a socket is watched after it should have been closed; 0 for none "
        "(default: 10)",
    )
    watch.add_argument(
        "--revoke-command",
        metavar="CMD",
        help="a line for the shell that revokes the token of another socket: of the user "
        "WSAUTH_IDENTITY at WSAUTH_ISSUER, with the jti WSAUTH_JTI and the sid WSAUTH_SID",
    )


def _claims_arguments(parser: argparse.ArgumentParser) -> None:
    known = sorted(set(get_default_algorithms()) - {"none"})
    parser.add_argument(
        "--algorithm",
        choices=known,
        metavar="ALG",
        default="HS256",
        help=f"one of {', '.join(known)} (default: HS256)",
    )
    parser.add_argument("--audience", help="the aud of the token")
    parser.add_argument("--issuer", help="the iss of the token")
    parser.add_argument("--subject", default="alice", help="its sub (default: alice)")
    parser.add_argument("--scope", action="append", default=[], help="may be given several times")


def _name(text: str) -> str:
    if "://" in text:
        raise argparse.ArgumentTypeError(
            f"put the URL before this option, or give it a name: {text}"
        )
    return text


def _close_code(text: str) -> int:
    if not re.fullmatch("[1-4][0-9]{3}", text, re.ASCII):
        raise argparse.ArgumentTypeError("not a close code: must be a number from 1000 to 4999")
    return int(text)


# The commands.


def _key(args: argparse.Namespace) -> int:
    key = new_secret(API_KEY)
    digest = f"sha256:{sha256(key.encode()).hexdigest()}"
    if args.json:
        print(json.dumps({"key": key, "digest": digest}, indent=2))
        return 0
    print("Give the key to the client. The server only needs its digest:", file=sys.stderr)
    print(f'    APIKeyVerifier({{"name": "{digest}"}})', file=sys.stderr)
    print(key)
    return 0


def _token(args: argparse.Namespace) -> int:
    print(
        _signed(
            args,
            read_secret(args, "key"),
            expires_in=check_seconds("--seconds", args.seconds, least=-1e9),
            key_id=args.kid,
        )
    )
    return 0


def _claims(args: argparse.Namespace) -> dict[str, Any]:
    given = {"aud": args.audience, "iss": args.issuer}
    return {name: value for name, value in given.items() if value}


def _signed(args: argparse.Namespace, key: Any, *, silent: bool = False, **more: Any) -> str:
    """A JWT. PyJWT's warnings about the key go to stderr, unless `silent`.

    Raises:
        ConfigurationError: the key doesn't fit the algorithm.
    """
    claims = {"identity": args.subject, "scopes": args.scope, **_claims(args), **more}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            token = make_jwt(key, algorithm=args.algorithm, **claims)
        except CANNOT_LOAD as exc:
            why = why_unusable(exc)
            raise ConfigurationError(f"the key can't sign with {args.algorithm}: {why}") from exc
    for warning in () if silent else said:
        print(f"asgi-wsauth: {warning.message}", file=sys.stderr)
    return token


def _explain(args: argparse.Namespace) -> int:
    print(*explained(args.code, args.reason), sep="\n")
    return 0


def _probe(args: argparse.Namespace) -> int:
    with needs_extra("probe", None, "cli"):
        from asgi_wsauth.cli.report import run
        from asgi_wsauth.cli.watch import Watch
    if args.token_file == args.key_file == "-":
        raise ConfigurationError("--token-file and --key-file: only one can be stdin")
    target = _target(args)
    leeway = check_seconds("--leeway", args.leeway, least=0)
    seconds = check_seconds("--watch", args.watch, least=0)
    key, token = read_secret(args, "key"), read_secret(args, "token")
    if args.revoke_command is not None:
        _check_revocation(args, key or token)
    return run(
        target,
        Watch(
            partial(_signed, args, key, silent=True) if key else None,
            token,
            leeway,
            seconds,
            args.revoke_command,
        ),
        token=token,
        expired=_signed(args, key, expires_in=-3600) if key else None,
        claims=_claims(args),
        as_json=args.json,
    )


def _target(args: argparse.Namespace) -> Target:
    given = {kind: getattr(args, kind) for kind in get_args(Kind)}
    carriers = [Carrier(kind, name) for kind, name in given.items() if name is not None]
    return Target(
        args.url,
        carriers[0] if carriers else Carrier(),
        origin=args.origin,
        offered=tuple(args.offer),
        timeout=check_seconds("--timeout", args.timeout),
        patience=check_seconds("--patience", args.patience),
    )


def _check_revocation(args: argparse.Namespace, secret: str | None) -> None:
    if not args.revoke_command.strip():
        raise ConfigurationError("--revoke-command is empty")
    if secret is None:
        raise ConfigurationError("--revoke-command needs a token to revoke: pass --key-env NAME")
    if not args.watch:
        raise ConfigurationError("--revoke-command needs some time: --watch must be above 0")
