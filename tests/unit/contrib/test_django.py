"""A session of Django's says who connects, and its end is the sockets' end."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from itertools import count
from typing import Any

import anyio
import django_site
import pytest
from cases import cases
from django.apps import apps
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client, override_settings
from django.utils import timezone
from django_faults import HangingBackend
from django_site import PASSWORD, make_user
from handshakes import Knows, authenticator, judge, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    ConfigurationError,
    Credential,
    Denied,
    MemoryStore,
    Principal,
    Reason,
    Revocations,
)
from asgi_wsauth.contrib.django import DjangoSession, revoke_at_logout, session_id
from asgi_wsauth.verifiers.rechecking import identify_again

ORIGINS = ["https://site.example"]
MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"
ENGINES = [f"django.contrib.sessions.backends.{name}" for name in "db cache cached_db file".split()]
SIGNED = "django.contrib.sessions.backends.signed_cookies"

_numbers = count(1)


pytestmark = pytest.mark.slow  # Django is imported, and set up


@pytest.fixture(scope="module", autouse=True)
def tables() -> None:
    django_site.make_tables()


def new_user(**more: Any) -> User:
    return make_user(f"user{next(_numbers)}", **more)


def logged_in(user: User) -> Client:
    """A browser in which a user has logged in."""
    browser = Client(SERVER_NAME="site.example")
    log_in(browser, user)
    return browser


def log_in(browser: Client, user: User) -> None:
    told = {"username": user.username, "password": PASSWORD}
    answer = browser.post("/login", json.dumps(told), content_type="application/json")
    assert answer.status_code == 200


def key_of(browser: Client) -> str:
    return browser.cookies["sessionid"].value


def verdict(key: str, sessions: DjangoSession | None = None) -> Principal | Reason | None:
    """What the verifier makes of a session's key that came in its cookie."""

    async def ask() -> Principal | Reason | None:
        verifier = sessions or DjangoSession()
        try:
            return await verifier(
                Credential(key, repr(verifier.cookie)), HTTPConnection(websocket())
            )
        except Denied as denied:
            assert key not in str(denied)
            return denied.reason

    return anyio.run(ask)


def admitted(key: str, **options: Any) -> Principal:
    principal = verdict(key, DjangoSession(**options))
    assert isinstance(principal, Principal), principal
    return principal


def change(browser: Client, **data: Any) -> str:
    """Write into a session; None takes out."""
    session = browser.session
    for key, value in data.items():
        session[key] = value
        if value is None:
            del session[key]
    session.save()
    return key_of(browser)


class TestWho:
    def test_the_principal_is_the_user(self) -> None:
        user = new_user()
        key = key_of(logged_in(user))
        principal = admitted(key, clock=lambda: 5.0)
        assert principal.identity == str(user.pk)
        assert (principal.display_name, principal.method) == (user.username, "django")
        assert principal.session_id == session_id(key) == sha256(key.encode()).hexdigest()
        assert (principal.issued_at, principal.issuer, principal.scopes) == (5.0, None, ())
        assert key not in repr(vars(principal))

    @cases("engine", [*ENGINES, SIGNED])
    def test_any_engine_keeps_the_session(self, engine: str) -> None:
        with override_settings(SESSION_ENGINE=engine):
            user = new_user()
            principal = admitted(key_of(logged_in(user)))
        assert principal.identity == str(user.pk)
        assert principal.expires_at is not None
        assert abs(principal.expires_at - time.time() - 14 * 86400) < 60

    @cases("engine", ENGINES[:1])
    def test_it_expires_with_the_session(self, engine: str) -> None:
        browser = logged_in(new_user())
        ends = timezone.now() + timedelta(seconds=30)
        Session.objects.filter(session_key=key_of(browser)).update(expire_date=ends)
        assert admitted(key_of(browser)).expires_at == ends.timestamp()

    def test_scopes_are_what_the_project_says(self) -> None:
        user = new_user()
        user.user_permissions.add(Permission.objects.get(codename="add_user"))
        principal = admitted(
            key_of(logged_in(user)), scopes=lambda user: user.get_all_permissions()
        )
        assert principal.scopes == ("auth.add_user",)

    @cases("given", ["admin", {"admin": False}, [1], None])
    def test_scopes_that_are_no_list_of_strings_are_an_error(self, given: Any) -> None:
        sessions = DjangoSession(scopes=lambda user: given)
        assert verdict(key_of(logged_in(new_user())), sessions) is Reason.ERROR

    def test_through_an_authenticator_the_app_gets_the_user(self) -> None:
        user = new_user()
        sessions = DjangoSession()
        auth = authenticator(
            sessions,
            sources=[sessions.cookie],
            allowed_origins=ORIGINS,
            load_user=sessions.load_user,
            clock=time.time,
        )
        headers = [("cookie", f"sessionid={key_of(logged_in(user))}"), ("origin", ORIGINS[0])]
        conn = HTTPConnection(websocket(headers=headers))
        authentication = anyio.run(auth.authenticate, conn)
        assert authentication.user == user

    def test_the_cookie_is_that_of_the_settings(self) -> None:
        with override_settings(SESSION_COOKIE_NAME="site_session"):
            assert repr(DjangoSession().cookie) == "cookie site_session"


class TestWhoNot:
    @cases("presented", ["", "x", "a" * 31, "a" * 33, "A" * 32, "wst_" + "a" * 28, "eyJ.a.b"])
    def test_what_came_elsewhere_and_looks_like_no_key_is_not_mine(self, presented: str) -> None:
        assert anyio.run(judge, DjangoSession(), presented) is None

    def test_a_key_is_one_wherever_it_came(self) -> None:
        key = key_of(logged_in(new_user()))
        assert isinstance(anyio.run(judge, DjangoSession(), key), Principal)

    @cases("engine", [*ENGINES, SIGNED])
    @cases("key", ["a" * 32, "x", "../../etc/passwd", "eyJ.a.b", "a" * 8000, "%00", "a:b:c"])
    def test_a_session_that_is_not_there_is_invalid(self, engine: str, key: str) -> None:
        with override_settings(SESSION_ENGINE=engine):
            assert verdict(key) is Reason.INVALID

    def test_a_session_that_was_logged_out_is_invalid(self) -> None:
        browser = logged_in(new_user())
        key = key_of(browser)
        browser.post("/logout")
        assert verdict(key) is Reason.INVALID

    def test_an_expired_session_is_expired(self) -> None:
        key = key_of(logged_in(new_user()))
        ended = timezone.now() - timedelta(seconds=1)
        Session.objects.filter(session_key=key).update(expire_date=ended)
        assert verdict(key) is Reason.EXPIRED

    def test_a_visitor_is_missing_and_counts_for_no_throttle(self) -> None:
        browser = Client(SERVER_NAME="site.example")
        browser.post("/visit")
        assert verdict(key_of(browser)) is Reason.MISSING

    @cases("engine", [*ENGINES, SIGNED])
    def test_a_visitor_of_whom_nothing_is_known_any_more_is_missing(self, engine: str) -> None:
        with override_settings(SESSION_ENGINE=engine):
            browser = Client(SERVER_NAME="site.example")
            browser.post("/visit")
            session = browser.session
            for name in list(session.keys()):
                del session[name]
            session.save()
            assert verdict(session.session_key) is Reason.MISSING

    @cases("data", [{BACKEND_SESSION_KEY: None}, {"_auth_user_id": None}])
    def test_half_a_login_is_none(self, data: dict[str, Any]) -> None:
        assert verdict(change(logged_in(new_user()), **data)) is Reason.MISSING

    def test_a_user_who_is_gone_is_revoked(self) -> None:
        user = new_user()
        key = key_of(logged_in(user))
        user.delete()
        assert verdict(key) is Reason.REVOKED

    @cases("backend", [MODEL_BACKEND, "django_faults.NaiveBackend"])
    def test_a_locked_user_is_revoked(self, backend: str) -> None:
        user = new_user()
        key = change(logged_in(user), **{BACKEND_SESSION_KEY: backend})
        with override_settings(AUTHENTICATION_BACKENDS=[backend]):
            assert isinstance(verdict(key), Principal)
            User.objects.filter(pk=user.pk).update(is_active=False)
            assert verdict(key) is Reason.REVOKED

    def test_a_backend_may_admit_locked_users(self) -> None:
        user = new_user(is_active=False)
        backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
        with override_settings(AUTHENTICATION_BACKENDS=[backend]):
            assert isinstance(verdict(key_of(logged_in(user))), Principal)

    def test_a_changed_password_is_revoked(self) -> None:
        user = new_user()
        key = key_of(logged_in(user))
        user.set_password("another")
        user.save()
        assert verdict(key) is Reason.REVOKED

    @cases("stored", [None, "", "0" * 64])
    def test_a_session_without_the_passwords_hash_is_revoked(self, stored: Any) -> None:
        key = change(logged_in(new_user()), **{HASH_SESSION_KEY: stored})
        assert verdict(key) is Reason.REVOKED

    def test_a_user_without_a_password_needs_no_hash(self) -> None:
        backend = "django_faults.GuestBackend"
        key = change(logged_in(new_user()), **{BACKEND_SESSION_KEY: backend})
        with override_settings(AUTHENTICATION_BACKENDS=[backend]):
            assert admitted(key).display_name == "guest"

    def test_a_backend_that_was_removed_is_revoked(self) -> None:
        key = key_of(logged_in(new_user()))
        with override_settings(AUTHENTICATION_BACKENDS=["django_faults.NaiveBackend"]):
            assert verdict(key) is Reason.REVOKED

    def test_an_old_secret_key_counts_while_it_is_a_fallback(self) -> None:
        """And nothing is written: the browser would never hear of a new session key."""
        key = key_of(logged_in(new_user()))
        old = django_site.settings.SECRET_KEY
        before = Session.objects.get(session_key=key).session_data
        with override_settings(SECRET_KEY="n" * 50, SECRET_KEY_FALLBACKS=["x" * 50, old]):
            assert isinstance(verdict(key), Principal)
        assert Session.objects.get(session_key=key).session_data == before
        with override_settings(SECRET_KEY="n" * 50):
            assert not isinstance(verdict(key), Principal)


class TestOutages:
    @cases(
        "broken",
        [
            {"SESSION_ENGINE": "django_faults"},
            {
                "SESSION_ENGINE": ENGINES[1],
                "CACHES": {"default": {"BACKEND": "django_faults.BrokenCache"}},
            },
            {"AUTHENTICATION_BACKENDS": ["django_faults.BrokenBackend"]},
        ],
    )
    def test_what_fails_is_unavailable(self, broken: dict[str, Any]) -> None:
        browser = logged_in(new_user())
        key = change(browser, **{BACKEND_SESSION_KEY: "django_faults.BrokenBackend"})
        with override_settings(**broken):
            assert verdict(key) is Reason.UNAVAILABLE

    def test_what_hangs_is_unavailable_in_time(self) -> None:
        backend = "django_faults.HangingBackend"
        key = change(logged_in(new_user()), **{BACKEND_SESSION_KEY: backend})
        auth = authenticator(DjangoSession(), timeout=0.05)
        conn = HTTPConnection(websocket(f"token={key}"))
        with override_settings(AUTHENTICATION_BACKENDS=[backend]):
            with pytest.raises(Denied) as denied:
                anyio.run(auth.authenticate, conn)
            HangingBackend.goes_on.set()
        assert denied.value.reason is Reason.UNAVAILABLE

    def test_a_cached_session_outlives_its_cache(self) -> None:
        caches = {"default": {"BACKEND": "django_faults.BrokenCache"}}
        with override_settings(SESSION_ENGINE=ENGINES[2]):
            key = key_of(logged_in(new_user()))
            with override_settings(CACHES=caches):
                assert isinstance(verdict(key), Principal)


class TestLoadUser:
    def load(self, principal: Principal) -> Any:
        return anyio.run(DjangoSession().load_user, principal, HTTPConnection(websocket()))

    def test_a_ticket_counts_as_the_session_behind_it(self) -> None:
        user = new_user()
        ticket = Principal(str(user.pk), method="ticket", login_method="django")
        assert self.load(ticket) == user

    def test_who_has_another_login_stays_the_principal(self) -> None:
        for method in ("jwt", "internal"):
            principal = Principal(str(new_user().pk), method=method)
            assert self.load(principal) is principal

    def test_a_user_who_is_gone_or_locked_is_none(self) -> None:
        locked, gone = new_user(is_active=False), new_user()
        names = [str(locked.pk), str(gone.pk)]
        gone.delete()
        for name in names:
            assert self.load(Principal(name, method="django")) is None

    def test_a_database_that_fails_is_unavailable(self) -> None:
        with (
            override_settings(AUTHENTICATION_BACKENDS=["django_faults.BrokenBackend"]),
            pytest.raises(Denied) as denied,
        ):
            self.load(Principal("1", method="django"))
        assert denied.value.reason is Reason.UNAVAILABLE


class Ended:
    """Which logins were ended, by the revocations that Django's signals make."""

    def __init__(self) -> None:
        self.revocations = Revocations(MemoryStore())
        self.undo = revoke_at_logout(self.revocations)

    def __call__(self, principal: Principal) -> bool:
        try:
            anyio.run(self.revocations.check, principal)
        except Denied as denied:
            assert denied.reason is Reason.REVOKED
            return True
        return False


@pytest.fixture
def ended() -> Iterator[Ended]:
    ended = Ended()
    yield ended
    ended.undo()


def set_password(user: User) -> None:
    user.set_password("another")
    user.save()


def lock(user: User) -> None:
    user.is_active = False
    user.save(update_fields=["is_active"])


def upgrade(user: User) -> None:
    """A hash of another kind is another one to Django's sessions, too."""
    user.password += "x"
    user.save(update_fields=["password"])


class Worker(User):
    class Meta:
        app_label = "auth"
        proxy = True


class TestRevocation:
    @cases("way", ["/logout", "/logout-async"])
    def test_a_logout_ends_that_session(self, way: str) -> None:
        ended = Ended()
        user = new_user()
        browsers = [logged_in(user), logged_in(user)]
        here, elsewhere = (admitted(key_of(browser)) for browser in browsers)
        browsers[0].post(way)
        assert ended(here)
        assert not ended(elsewhere)
        ended.undo()

    def test_a_login_in_the_place_of_another_ends_that(self, ended: Ended) -> None:
        user = new_user()
        browser = logged_in(user)
        principal = admitted(key_of(browser))
        log_in(browser, user)  # which Django lets keep its session
        assert principal.session_id == session_id(key_of(browser))
        assert not ended(principal)
        log_in(browser, new_user())
        assert ended(principal)
        assert not ended(admitted(key_of(browser)))

    @cases("end", [set_password, lock, upgrade, User.delete])
    @cases("model", [User, Worker])
    def test_a_user_loses_all_sockets(self, end: Callable[[User], None], model: type[User]) -> None:
        ended = Ended()
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        end(model.objects.get(pk=user.pk))
        assert ended(principal)
        ended.undo()

    def test_other_changes_end_nothing(self, ended: Ended) -> None:
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        logged_in(user)  # which saves last_login
        user.email = "a@site.example"
        user.save()
        user.save(update_fields=["email"])
        new_user()
        User(username=f"user{next(_numbers)}", pk=99_999).save()
        assert not ended(principal)

    def test_a_user_without_a_hash_ends_nothing(self, ended: Ended) -> None:
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr("django.contrib.auth.base_user.AbstractBaseUser.get_session_auth_hash")
            user.set_password("another")
            user.save()
        assert not ended(principal)

    def test_sockets_that_open_later_are_up_to_the_database(self, ended: Ended) -> None:
        user = new_user()
        set_password(user)
        user.set_password(PASSWORD)
        user.save()
        assert not ended(admitted(key_of(logged_in(user))))

    def test_nothing_ends_before_the_transaction_has(self, ended: Ended) -> None:
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        with transaction.atomic():
            set_password(user)
            assert not ended(principal)
        assert ended(principal)

    def test_nothing_ends_with_a_transaction_that_is_rolled_back(self, ended: Ended) -> None:
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            set_password(user)
            raise ZeroDivisionError
        assert not ended(principal)
        user.refresh_from_db()
        user.save()
        assert not ended(principal)

    def test_a_logout_of_nobody_ends_nothing(self, ended: Ended) -> None:
        assert Client(SERVER_NAME="site.example").post("/logout").status_code == 200

    def test_it_can_be_undone(self) -> None:
        ended = Ended()
        ended.undo()
        user = new_user()
        principal = admitted(key_of(logged_in(user)))
        set_password(user)
        assert not ended(principal)

    def test_a_store_that_fails_stops_no_logout(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(MemoryStore):
            async def put_revocation(self, *args: Any, **more: Any) -> None:
                raise ConnectionError("connection refused")

        undo = revoke_at_logout(Revocations(Broken()))
        browser = logged_in(new_user())
        key = key_of(browser)
        assert browser.post("/logout").status_code == 200
        undo()
        assert verdict(key) is Reason.INVALID
        (record,) = [r for r in caplog.records if r.name.startswith("asgi_wsauth")]
        assert record.levelno == logging.ERROR
        assert "stay open: verifier_unavailable" in record.getMessage()
        assert key not in caplog.text


class TestRecheck:
    @cases(
        "end",
        [
            lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
            lambda user: User.objects.filter(pk=user.pk).update(password="another"),
            lambda user: Session.objects.all().delete(),
        ],
    )
    def test_finds_what_no_signal_tells_of(self, end: Callable[[User], None]) -> None:
        user = new_user()
        key = key_of(logged_in(user))
        principal = admitted(key)
        assert rechecked(key, principal) == "good"
        end(user)
        assert rechecked(key, principal) is Reason.REVOKED


def rechecked(key: str, principal: Principal) -> Reason | str:
    sessions = DjangoSession()
    credential = Credential(key, repr(sessions.cookie))
    ask = identify_again, sessions, credential, principal, HTTPConnection(websocket()), time.time()
    try:
        assert anyio.run(*ask).identity == principal.identity
        return "good"
    except Denied as denied:
        return denied.reason


class TestConfiguration:
    def test_without_django_it_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "django.apps", None)
        for build in (DjangoSession, lambda: revoke_at_logout(Revocations(MemoryStore()))):
            with pytest.raises(ConfigurationError, match=r"pip install 'asgi-wsauth\[django\]'"):
                build()

    def test_django_must_be_set_up_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(apps, "ready", False)
        with pytest.raises(ConfigurationError, match=r"call get_asgi_application\(\)"):
            DjangoSession()

    def test_it_takes_an_app_with_users(self) -> None:
        with (
            override_settings(INSTALLED_APPS=["django.contrib.sessions"]),
            pytest.raises(ConfigurationError, match=r"must have django\.contrib\.auth"),
        ):
            DjangoSession()

    @cases("key", ["", None, b"bytes"])
    def test_a_session_has_a_key(self, key: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^session_key must ") as caught:
            session_id(key)
        assert "bytes'" not in str(caught.value)

    def test_its_repr_says_what_it_is(self) -> None:
        assert repr(DjangoSession()) == "<DjangoSession>"

    def test_it_refuses_nobody_elses_credential(self) -> None:
        known = Knows(a=Principal("alice"))
        auth = authenticator(DjangoSession(), known)
        admission = anyio.run(auth.authenticate, HTTPConnection(websocket("token=a")))
        assert admission.principal.identity == "alice"
