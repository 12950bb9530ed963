"""Every check of an option: what it takes, and in which words it refuses the rest."""

from __future__ import annotations

import base64
import random
import time
import traceback
from asyncio import Task, to_thread
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache, lru_cache, partial, wraps
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
import redis.asyncio
from asgiref.sync import sync_to_async
from cases import cases
from channels.db import database_sync_to_async
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint

from asgi_wsauth import Authenticator, ConfigurationError, InternalCredential
from asgi_wsauth.options import (
    check_app,
    check_async,
    check_callable,
    check_clock,
    check_count,
    check_key,
    check_list,
    check_scopes,
    check_seconds,
    check_secret,
    check_store,
)
from asgi_wsauth.options.secrets import _PLACEHOLDERS


@cases(
    ("given", "told"),
    [
        ("abc", "got one string; write ['abc']"),
        (b"abc", "got one string; write [b'abc']"),
        (None, "got None; leave it out, or write []"),
        (7, "got 7; put it into brackets: [...]"),
        ({"a": 1}, "got {'a': 1}"),
    ],
)
def test_what_is_no_list_is_named_with_its_mend(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_list("exclude", given)
    assert str(caught.value) == f"exclude must be a list, {told}"


def test_the_members_of_anything_that_has_some() -> None:
    assert check_list("exclude", (letter for letter in "ab")) == ("a", "b")


@cases("given", [0, -1, 1.5, 2.0, float("nan"), True, "5", None])
def test_what_is_no_number_of_things_is_named(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_count("size", given)
    assert str(caught.value) == f"size must be a positive integer, got {given!r}"


@cases("given", [1, 2, 10**6])
def test_a_number_of_things(given: int) -> None:
    assert check_count("size", given) == given


def test_a_count_may_have_another_least() -> None:
    assert check_count("size", 0, least=0) == 0
    with pytest.raises(ConfigurationError, match=r"^size must be an integer of at least 0, got -1"):
        check_count("size", -1, least=0)


@cases("given", [0, -1, float("nan"), float("inf"), True, "5", None])
def test_what_is_no_number_of_seconds_is_named(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_seconds("JWKS: ttl", given)
    assert str(caught.value) == f"JWKS: ttl must be a positive number of seconds, got {given!r}"


@cases(("least", "given"), [(None, 0.1), (None, 5), (0, 0), (2, 2)])
def test_a_number_of_seconds(least: float | None, given: float) -> None:
    assert check_seconds("JWKS: ttl", given, least=least) == given


@cases(("least", "given"), [(0, -0.1), (2, 1.9)])
def test_too_few_seconds(least: float, given: float) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_seconds("JWKS: ttl", given, least=least)
    assert str(caught.value).endswith(f"a number of seconds of at least {least}, got {given}")


def test_too_many_seconds() -> None:
    with pytest.raises(ConfigurationError, match=r"seconds and at most 10, got 11$"):
        check_seconds("JWKS: ttl", 11, most=10)


# The ways in which people write down random bytes.
ENCODINGS: dict[str, Callable[[bytes], str | bytes]] = {
    "token_urlsafe": lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
    "token_hex": bytes.hex,
    "token_bytes": bytes,
    "upper-case hex": lambda raw: raw.hex().upper(),
    "base64": lambda raw: base64.b64encode(raw).decode(),
    "base32": lambda raw: base64.b32encode(raw).decode(),
    "base85": lambda raw: base64.b85encode(raw).decode(),
    "uuid": lambda raw: f"{raw[:4].hex()}-{raw[4:6].hex()}-{raw[6:8].hex()}-{raw[8:16].hex()}",
    "generated": lambda raw: "wsk_" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode(),
}


class TestCheckSecret:
    @cases("encode", ENCODINGS.values(), ids=ENCODINGS)
    @cases("size", [16, 32, 64])
    def test_random_secrets_pass(self, encode: Callable[[bytes], str | bytes], size: int) -> None:
        """100 each, always the same ones, so that this can't fail once in a blue moon."""
        generator = random.Random(size)
        for _ in range(100):
            secret = encode(generator.randbytes(size))
            raw = secret.encode() if isinstance(secret, str) else secret
            assert check_secret("key", secret, minimum=16) == raw

    def test_a_passphrase_of_unrelated_words_passes(self) -> None:
        assert check_secret("key", "correct-horse-battery-staple", minimum=16)

    def test_a_string_counts_in_bytes_of_utf_8(self) -> None:
        secret = "äöüßéèêëåøæœ"
        assert check_secret("key", secret, minimum=24) == secret.encode()
        with pytest.raises(ConfigurationError, match="key must have at least 25 bytes, got 24"):
            check_secret("key", secret, minimum=25)

    @cases(
        "secret",
        [
            "changeme-changeme-changeme-changeme",
            "Change-Me! Change-Me! Change-Me! 42",
            "please CHANGE_THIS before you deploy it",
            "replace.me.with.a.real.one.0123456",
            "your-256-bit-secret-your-256-bit-secret",
            "a-string-secret-at-least-256-bits-long",
            "insert_your_key_here_insert_your_key",
            "<YOUR_API_KEY>-<YOUR_API_KEY>-<YOUR>",
            "my_secret_key_my_secret_key_my_secret",
            "super-secret-super-secret-super-secret",
            "django-insecure-supersecret-0f9a8b7c6d",
            "don't tell anybody about this, will you",
            "P@ssw0rd! passw0rd! P@ssw0rd! passw0rd!",
            "Password123Password123Password123Pass",
            "12345678901234567890123456789012",
            "qwertyuiopasdfghjklzxcvbnm0123",
            "abcdefghijklmnopqrstuvwxyz0189",
            "xxxxxxxx-yyyyyyyy-zzzzzzzz-01234567",
        ],
    )
    def test_a_placeholder_is_no_secret(self, secret: str) -> None:
        for written in (secret, secret.encode(), secret.upper()):
            with pytest.raises(
                ConfigurationError, match=r"^key must be random, got a place"
            ) as caught:
                check_secret("key", written, minimum=16)
            assert secret.lower() not in str(caught.value).lower()

    @cases(
        "secret",
        ["=" * 64, "ab" * 32, "1234567" * 8, "0" * 32, b"\x00" * 64, b"\x00\xff" * 32],
        ids=range(6),
    )
    def test_hardly_any_different_characters_are_no_secret(self, secret: str) -> None:
        with pytest.raises(ConfigurationError, match="placeholder"):
            check_secret("key", secret, minimum=16)

    def test_five_different_characters_may_be_one(self) -> None:
        assert check_secret("key", "13524" * 5, minimum=16)

    @cases("secret", ["", b""])
    def test_nothing_is_no_secret(self, secret: str | bytes) -> None:
        with pytest.raises(ConfigurationError, match=r"^key must not be empty"):
            check_secret("key", secret, minimum=1)

    @cases("size", [1, 31])
    def test_a_short_one_is_no_secret(self, size: int) -> None:
        secret = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1U"[:size]
        with pytest.raises(ConfigurationError, match=f"key must .* 32 bytes, got {size};") as info:
            check_secret("key", secret, minimum=32)
        assert size == 1 or secret not in str(info.value)

    @cases("secret", [None, 12345678901234567890, ["a"], bytearray(40), object()])
    def test_what_is_no_string_is_no_secret(self, secret: object) -> None:
        with pytest.raises(ConfigurationError, match=r"^key must be a string or bytes, got "):
            check_secret("key", secret, minimum=16)

    def test_an_environment_variable_that_is_no_utf_8_is_no_secret(self) -> None:
        """`os.environ` gives the bytes that it can't decode as lone surrogates."""
        with pytest.raises(ConfigurationError, match="key"):
            check_secret("key", "rF3vN8wq0ZtL6yJ2sXk9\udcff", minimum=16)

    @cases(
        "secret", ["hunter2", "changeme-with-my-real-one-Kq8", "zyzyzyzyzyzyzyzyzyzyzyzyzyzyzyzyzy"]
    )
    def test_nothing_that_is_raised_tells_the_secret(self, secret: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_secret("key", secret, minimum=16)
        assert secret not in "".join(traceback.format_exception(caught.value))

    @cases("secret", ["", "short", "changeme" * 8])
    def test_the_mend_is_a_command_that_makes_a_good_one(self, secret: str) -> None:
        with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe\(32\)"):
            check_secret("key", secret, minimum=16)

    def test_that_one_is_long_enough(self) -> None:
        with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe\(64\)"):
            check_secret("key", "short", minimum=64)


class TestAtTheEnds:
    """What was read from a file often has a newline at its end, and fits nothing."""

    SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1U"

    @cases("form", ["{}\n", "{}\r\n", " {}", "{} ", "\t{}", "\n{}\n", "{}\u00a0"])
    @cases("check", [check_secret, check_key])
    def test_a_space_or_newline_is_named(self, form: str, check: Any) -> None:
        options = {"minimum": 16} if check is check_secret else {}
        written = form.format(self.SECRET)
        for secret in (written, written.encode()) if written.isascii() else (written,):
            with pytest.raises(ConfigurationError) as caught:
                check("key", secret, **options)
            assert "must not begin or end with a space or a newline" in str(caught.value)
            assert self.SECRET not in str(caught.value)

    def test_a_secret_may_have_spaces_within(self) -> None:
        assert check_secret("key", "correct horse battery staple", minimum=16)

    @cases("end", [b"\n", b" ", b"\t"])
    def test_bytes_that_are_no_text_may_end_in_any(self, end: bytes) -> None:
        random_bytes = random.Random(1).randbytes(32)
        assert check_secret("key", random_bytes + end, minimum=32) == random_bytes + end


class TestAWordOfTheList:
    """It makes no placeholder of a secret that is none without it."""

    @cases("word", _PLACEHOLDERS)
    @cases("size", [32, 48, 64])
    def test_in_a_random_secret_it_does_no_harm(self, word: str, size: int) -> None:
        generator = random.Random(f"{word}{size}")
        for _ in range(10):
            secret = ENCODINGS["token_urlsafe"](generator.randbytes(size))
            place = generator.randrange(len(secret) + 1)
            minimum = len(secret)
            for written in (word, word.upper(), word.title()):
                given = f"{secret[:place]!s}{written}{secret[place:]!s}"
                assert check_secret("key", given, minimum=minimum) == given.encode()

    @cases(
        "secret",
        [
            "supersecret" * 6,
            "supersecret-" * 6,
            "supersecret" + "a" * 32,
            "supersecret" + "0123456789" * 4,
            "supersecretAb1!" * 4,
            "supersecret" + "Ab1!Cd2?" * 5,
            "Please ChangeMe Before You Deploy It, Thanks",
            "changeme changeme rF3vN8wq0Z",
        ],
    )
    def test_padding_does_not_save_it(self, secret: str) -> None:
        with pytest.raises(ConfigurationError, match="got a placeholder"):
            check_secret("key", secret, minimum=16)


class SecretStr:
    """As pydantic's."""

    def get_secret_value(self) -> str:
        return "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1U"


@cases(
    ("given", "told"),
    [
        (None, "got None; is the environment variable behind it set?"),
        (SecretStr(), "got a SecretStr; write .get_secret_value()"),
        (Path("/run/secrets/jwt"), f"got a {type(Path()).__name__}; write .read_text()"),
        (12345678901234567890, "got an int"),
    ],
)
@cases("check", [check_secret, check_key])
def test_what_only_leads_to_a_secret_is_named(given: object, told: str, check: Any) -> None:
    options = {"minimum": 16} if check is check_secret else {}
    with pytest.raises(ConfigurationError) as caught:
        check("key", given, **options)
    assert str(caught.value) == f"key must be a string or bytes, {told}"


class TestCheckKey:
    def test_sixteen_visible_characters_are_enough(self) -> None:
        assert check_key("key", "Kq8rT2vX5y!~nM4c") == b"Kq8rT2vX5y!~nM4c"

    @cases(
        ("key", "mend"),
        [
            ("Kq8rT2vX5y!~nM4", "must have at least 16 bytes, got 15"),
            ("Kq8rT2vX5y nM4cZ7w", "must be visible ASCII characters"),
            ("Kq8rT2vX5yänM4cZ7w", "must be visible ASCII characters"),
        ],
    )
    def test_what_nobody_can_present_or_anybody_guess_is_named(self, key: str, mend: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"^key {mend}") as caught:
            check_key("key", key)
        assert key not in str(caught.value)


class TestCheckScopes:
    @cases("scopes", [[], ["chat:write"], ["https://a.example/b", "!#[]~"]])
    def test_words_without_spaces_quotes_and_backslashes(self, scopes: list[str]) -> None:
        """RFC 6749 section 3.3."""
        assert check_scopes("scopes", iter(scopes)) == tuple(scopes)

    @cases("scopes", [["a b"], [""], ['a"b'], ["a\\b"], ["ä"], [7], [None], ["a", "b\n"]])
    def test_what_can_be_no_scope_is_named_with_an_example(self, scopes: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_scopes("scopes", scopes)
        mend = 'for example ["chat:write"]'
        assert str(caught.value) == f"scopes must be a list of scopes, {mend}, got {scopes!r}"

    @cases("scopes", ["chat:write", None, 7])
    def test_what_is_no_list_is_named(self, scopes: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^scopes must be a list, got "):
            check_scopes("scopes", scopes)


class TestCheckAsync:
    """A verifier, a `load_user` or a `lookup` that is surely not async is refused."""

    async def verify(self, credential: object, conn: object) -> None: ...

    def plain(self, credential: object, conn: object) -> None: ...

    def later(self, credential: object, conn: object) -> Awaitable[None]:
        return self.verify(credential, conn)

    async def __call__(self, credential: object, conn: object) -> None: ...

    @staticmethod
    def decorated(function: Any) -> Any:
        @wraps(function)
        def inner(*args: Any) -> Any:
            return function(*args)

        return inner

    @staticmethod
    def annotated(function: Any, returned: type) -> Any:
        """With a class, and not its name."""

        def inner(credential, conn):  # type: ignore[no-untyped-def]
            return function(credential, conn)

        inner.__annotations__["return"] = returned
        return inner

    def accepted(self) -> list[Any]:
        return [
            self,
            self.verify,
            self.later,
            partial(self.verify),
            partial(self.later),
            partial(lambda extra, credential, conn: self.verify(credential, conn), 1),
            self.decorated(self.verify),
            self.decorated(self.plain),  # it may run it in a thread
            sync_to_async(self.plain),
            database_sync_to_async(self.plain),
            lambda credential, conn: self.verify(credential, conn),
            AsyncMock(),
            self.annotated(self.plain, Task),
            dict.get,  # written in C: nothing is known of it
        ]

    def test_what_may_be_one_is_taken(self) -> None:
        for function in self.accepted():
            assert check_async("load_user", function, takes=2, example="") is function

    def test_what_is_surely_none_is_refused(self) -> None:
        class Plain:
            def __call__(self, credential: object, conn: object) -> None: ...

        class Tasked: ...

        @cache
        def cached(credential: object, conn: object) -> None: ...

        def unannotated(credential, conn): ...

        named = self.annotated(self.plain, Tasked)
        for function in (self.plain, partial(self.plain), Plain(), unannotated, named, cached):
            with pytest.raises(ConfigurationError, match=r"^load_user must be an async function"):
                check_async("load_user", function, takes=2, example="")

    def test_a_coroutine_that_is_kept_could_be_awaited_only_once(self) -> None:
        for function in (cache(self.verify), lru_cache(5)(partial(self.verify)), cache(self)):
            with pytest.raises(ConfigurationError, match=r"without functools\.cache, "):
                check_async("load_user", function, takes=2, example="")

    def test_a_class_is_no_object_of_it(self) -> None:
        with pytest.raises(ConfigurationError, match=r"write TestCheckAsync\(\.\.\.\)"):
            check_async("verifiers", TestCheckAsync, takes=2, example="")

    def test_one_that_takes_other_arguments_is_refused(self) -> None:
        async def one(credential: object) -> None: ...

        with pytest.raises(ConfigurationError, match="can be called with two arguments, got "):
            check_async("load_user", one, takes=2, example="")

    def test_a_wrapper_may_add_arguments_of_its_own(self) -> None:
        async def with_database(database: object, credential: object, conn: object) -> None: ...

        @wraps(with_database)
        async def inner(credential: object, conn: object) -> None: ...

        assert check_async("load_user", inner, takes=2, example="") is inner


class OwnStore:
    """Of which every method is right but the last."""

    async def put_ticket(self, digest: str) -> None: ...

    def take_ticket(self, digest): ...

    def had_ticket(self, digest: str) -> Awaitable[bool]:
        return to_thread(bool)

    def watch(self): ...


class TestCheckStore:
    def test_methods_that_are_not_async_are_named(self) -> None:
        store = OwnStore()
        check_store("Tickets: store", store, "put_ticket", "had_ticket", "watch")
        with pytest.raises(ConfigurationError, match=r"whose take_ticket\(\) is not async"):
            check_store("Tickets: store", store, "put_ticket", "take_ticket")

    def test_what_is_no_store_may_have_any(self) -> None:
        check_store("sources", OwnStore(), "take_ticket", what="a source")

    def test_a_client_of_redis_is_to_be_wrapped(self) -> None:
        with pytest.raises(ConfigurationError, match=r"write for example RedisStore\(client\)"):
            check_store("Tickets: store", redis.asyncio.Redis(), "put_ticket")


class TestCheckApp:
    def test_an_authenticator_comes_second(self) -> None:
        with pytest.raises(ConfigurationError, match=r"the app comes first$"):
            check_app(Authenticator([InternalCredential()]))

    def test_a_class_whose_objects_can_be_awaited_is_one(self) -> None:
        assert check_app(WebSocketEndpoint) is WebSocketEndpoint

    @cases("app", [None, "app", Starlette, lambda scope: None])
    def test_what_is_no_app_is_named(self, app: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^app must be an ASGI (3 )?app"):
            check_app(app)


def test_a_wrapper_may_return_anything() -> None:
    def find(name: str) -> str:
        return name

    @wraps(find)
    def in_a_thread(name):
        return to_thread(find, name)

    assert check_callable("lookup", in_a_thread, is_async=True) is in_a_thread


def test_a_clock_must_be_hashable() -> None:
    @dataclass
    class Clock:
        now: float = 0.0

        def __call__(self) -> float:
            return self.now

    with pytest.raises(
        ConfigurationError, match=r"^clock must be a function that can be hashed, got .*eq=False\)$"
    ):
        check_clock("clock", Clock())
    assert check_clock("clock", time.time) is time.time


def test_an_object_that_can_not_be_shown_is_named_by_its_class() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise LookupError

    with pytest.raises(ConfigurationError, match=r"integer, got a .*Shy$"):
        check_count("size", Shy())  # type: ignore[arg-type]


def test_what_takes_any_arguments_may_be_an_async_function() -> None:
    def anything(*args: object) -> object:
        return args

    assert check_async("verifiers", anything, takes=2, example="") is anything


def test_what_can_not_be_called_or_takes_more_is_no_function() -> None:
    with pytest.raises(ConfigurationError, match=r"^clock must be a function, got 7; "):
        check_clock("clock", 7)  # type: ignore[type-var]
    with pytest.raises(ConfigurationError, match="can be called with no argument"):
        check_clock("clock", lambda now: now)
