"""docs/guides/logins.md: what it shows of Django, and of tokens in a database, with the real
libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID

import anyio
import django_site
import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db.models.signals import post_delete
from django.test import Client
from django_site import make_user
from handshakes import App, authenticator, drive, judge, websocket
from knox.models import AuthToken
from logins_page import blocks
from rest_framework.authtoken.models import Token
from starlette.requests import HTTPConnection

from asgi_wsauth import Denied, MemoryStore, Principal, Reason, Revocations
from asgi_wsauth.contrib.django import DjangoSession

_numbers = count(1)


@pytest.fixture(scope="module", autouse=True)
def tables() -> None:
    django_site.make_tables()


class Database:
    """What stands for SQLAlchemy's session, with one user."""

    user = SimpleNamespace(id=UUID(int=7), email="ann@chat.example", is_active=True)

    async def __aenter__(self) -> Database:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def get(self, table: object, key: object) -> Any:
        return self.user if key == self.user.id else None


class Tokens:
    """What stands for fastapi-users' table of tokens, with one of that user's."""

    row = SimpleNamespace(token="t" * 43, user_id=Database.user.id, created_at=datetime.now(UTC))

    def __init__(self, session: object, table: object) -> None: ...

    async def get_by_token(self, token: str) -> Any:
        return self.row if token == self.row.token else None


@pytest.fixture(scope="module")
def tokens() -> Any:
    """The blocks for tokens: any database, Knox, Django REST framework, fastapi-users."""
    modules = {
        "db": {"AccessToken": None, "User": None, "async_session_maker": Database},
        "fastapi_users_db_sqlalchemy": {},
        "fastapi_users_db_sqlalchemy.access_token": {"SQLAlchemyAccessTokenDatabase": Tokens},
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, contents in modules.items():
            module = ModuleType(name)
            vars(module).update(contents)
            patch.setitem(sys.modules, name, module)
        found = blocks("Opaque tokens in a database")
    yield found
    post_delete.disconnect(found[1]["end_sockets"], sender=AuthToken)


def new_user() -> User:
    return make_user(f"page{next(_numbers)}")


def is_revoked(revocations: Revocations, principal: Principal) -> bool:
    try:
        anyio.run(revocations.check, principal)
    except Denied:
        return True
    return False


@pytest.fixture(scope="module")
def page() -> Any:
    """The blocks for Django."""
    sockets = ModuleType("mysite.sockets")
    sockets.websocket_app = App()  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mysite", ModuleType("mysite"))
        patch.setitem(sys.modules, "mysite.sockets", sockets)
        patch.setenv("DJANGO_SETTINGS_MODULE", "")
        return blocks("Django")


class TestDjango:
    def test_its_app_refuses_a_visitor(self, page: Any) -> None:
        scope = websocket(headers=[("origin", "https://site.example")])
        outcome = anyio.run(drive, page[0]["application"], scope)
        assert outcome.close == (1008, "token_missing")

    def test_code_of_ones_own_ends_sessions(self, page: Any) -> None:
        revocations, user = Revocations(MemoryStore()), new_user()
        keys = []
        for _ in range(2):
            browser = Client()
            browser.force_login(user)
            keys.append(browser.cookies["sessionid"].value)
        principals = [anyio.run(judge, DjangoSession(), key) for key in keys]
        rows = list(Session.objects.filter(session_key__in=keys))
        anyio.run(page[1]["log_out_everywhere_else"], revocations, keys[0], rows)
        assert [is_revoked(revocations, principal) for principal in principals] == [False, True]
        anyio.run(page[1]["lock"], revocations, User.objects.filter(pk=user.pk))
        assert is_revoked(revocations, principals[0])
        assert anyio.run(judge, DjangoSession(), keys[0]) is Reason.REVOKED


def knox(tokens: Any, user: User) -> tuple[Any, str, Any]:
    row, token = AuthToken.objects.create(user)
    return tokens[1]["knox"], token, row


def rest(tokens: Any, user: User) -> tuple[Any, str, Any]:
    row = Token.objects.create(user=user)
    return tokens[2]["rest"], row.key, row


Issue = Callable[[Any, User], "tuple[Any, str, Any]"]


class TestTokens:
    @pytest.mark.parametrize("issue", [knox, rest])
    def test_a_token_is_its_user(self, tokens: Any, issue: Issue) -> None:
        user = new_user()
        verifier, token, row = issue(tokens, user)
        principal = anyio.run(judge, verifier, token)
        assert isinstance(principal, Principal)
        assert principal.identity == str(user.pk)
        assert principal.display_name == user.username
        assert principal.issued_at == row.created.timestamp()
        assert principal.token_id == verifier.token_id(token)
        assert token not in repr(vars(principal))

    @pytest.mark.parametrize("issue", [knox, rest])
    def test_other_tokens_are_refused(self, tokens: Any, issue: Issue) -> None:
        user = new_user()
        verifier, token, row = issue(tokens, user)
        for other in (token[:-1], token + "0", "x"):
            assert anyio.run(judge, verifier, other) is None
        assert anyio.run(judge, verifier, token[::-1]) is Reason.INVALID
        User.objects.filter(pk=user.pk).update(is_active=False)
        assert anyio.run(judge, verifier, token) is Reason.REVOKED
        row.delete()
        assert anyio.run(judge, verifier, token) is Reason.INVALID

    def test_knox_tokens_expire_and_end_with_a_logout(self, tokens: Any) -> None:
        verifier, token, row = knox(tokens, new_user())
        principal = anyio.run(judge, verifier, token)
        assert isinstance(principal, Principal)
        assert principal.expires_at == row.expiry.timestamp()
        assert principal.token_id == row.digest
        row.delete()
        assert is_revoked(tokens[1]["revocations"], principal)
        expired, token = AuthToken.objects.create(new_user(), expiry=-timedelta(seconds=1))
        auth = authenticator(verifier)
        assert expired.expiry is not None
        with pytest.raises(Denied) as denied:
            anyio.run(auth.authenticate, HTTPConnection(websocket(f"token={token}")))
        assert denied.value.reason is Reason.EXPIRED

    def test_any_database(self, tokens: Any) -> None:
        row = {"user_id": 7, "expires_at": None, "user_is_active": True}
        tokens[0]["TABLE"][sha256(b"opaque").hexdigest()] = row
        (verifier,) = tokens[0]["auth"].verifiers
        principal = anyio.run(judge, verifier, "opaque")
        assert isinstance(principal, Principal)
        assert principal.identity == "7"
        assert anyio.run(judge, verifier, "another") is Reason.INVALID

    def test_fastapi_users(self, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        verifier, token = tokens[3]["tokens"], Tokens.row.token
        principal = anyio.run(judge, verifier, token)
        assert isinstance(principal, Principal)
        assert (principal.identity, principal.display_name) == (
            str(UUID(int=7)),
            "ann@chat.example",
        )
        assert principal.expires_at == Tokens.row.created_at.timestamp() + 3600
        assert anyio.run(judge, verifier, "u" * 43) is Reason.INVALID
        monkeypatch.setattr(Database.user, "is_active", False)
        assert anyio.run(judge, verifier, token) is Reason.REVOKED
