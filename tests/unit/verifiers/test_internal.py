"""The one credential of a server's own processes."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from cases import cases
from handshakes import authenticator, judged, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import ConfigurationError, InternalCredential

VALUE = "Kq8rT2vX5yB1nM4cZ7wL0sD3"


@pytest.mark.anyio
class TestInternalCredential:
    async def test_its_value_is_the_servers_own_principal(self) -> None:
        internal = InternalCredential(VALUE, scopes=["chat:write"])
        principal = await judged(internal, VALUE)
        assert principal is not None
        assert principal.identity == "server-internal"
        assert principal.scopes == ("chat:write",)
        assert principal.method == "internal"
        assert principal.expires_at is None

    async def test_it_can_be_used_as_often_as_needed(self) -> None:
        internal = InternalCredential()
        for _ in range(3):
            assert await judged(internal, internal.value) is not None

    @cases("presented", ["", "x", VALUE[:-1], VALUE + "x", VALUE.lower(), f" {VALUE}", "wsi_", "ä"])
    async def test_everything_else_is_not_mine(self, presented: str) -> None:
        assert await judged(InternalCredential(VALUE), presented) is None

    async def test_a_new_one_is_made_of_32_random_bytes(self) -> None:
        one, other = InternalCredential(), InternalCredential()
        assert one.value.startswith("wsi_")
        assert len(one.value) == len("wsi_") + 43  # 32 bytes in base64url
        assert one.value != other.value
        assert await judged(one, other.value) is None

    async def test_it_travels_like_every_other(self) -> None:
        internal = InternalCredential()
        auth = authenticator(internal)
        conn = HTTPConnection(websocket(f"token={internal.value}"))
        assert (await auth.authenticate(conn)).principal.identity == "server-internal"

    async def test_its_repr_hides_the_value(self) -> None:
        internal = InternalCredential(VALUE)
        assert repr(internal) == str(internal) == "<InternalCredential>"


WEAK = ["", "short", VALUE[:15], "changeme-changeme-changeme", "a" * 40, "internal_secret_key_1234"]


class TestConfiguration:
    @cases("value", WEAK)
    def test_a_value_that_can_be_guessed_is_refused(self, value: str) -> None:
        with pytest.raises(ConfigurationError, match=r"^InternalCredential: value must ") as caught:
            InternalCredential(value)
        assert not value or value not in "".join(traceback.format_exception(caught.value))

    @cases("value", [0, False, ["a"], object()])
    def test_what_is_no_string_is_refused(self, value: Any) -> None:
        with pytest.raises(ConfigurationError, match="InternalCredential"):
            InternalCredential(value)

    def test_none_from_a_missing_variable_makes_no_new_one(self) -> None:
        value: Any = None
        with pytest.raises(ConfigurationError, match=r"got None; is the environment variable"):
            InternalCredential(value)

    def test_one_string_is_no_list_of_scopes(self) -> None:
        """It would be taken as a list of letters, and `Principal` refuses it for that reason."""
        with pytest.raises(
            ConfigurationError, match=r"^InternalCredential: scopes must be a list, got one string"
        ):
            InternalCredential(scopes="chat:write")


class TestFromEnv:
    @pytest.mark.anyio
    async def test_processes_with_the_same_variable_share_the_credential(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WORKER_SECRET", VALUE)
        one = InternalCredential.from_env("WORKER_SECRET", scopes=["chat:write"])
        other = InternalCredential.from_env("WORKER_SECRET")
        assert one.value == other.value == VALUE
        principal = await judged(one, other.value)
        assert principal is not None
        assert principal.scopes == ("chat:write",)

    @cases("value", [None, ""])
    def test_a_variable_that_is_not_set_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, value: str | None
    ) -> None:
        """Or each process would make one of its own, and none could connect to another."""
        monkeypatch.delenv("WORKER_SECRET", raising=False)
        if value is not None:
            monkeypatch.setenv("WORKER_SECRET", value)
        with pytest.raises(ConfigurationError, match="WORKER_SECRET is not set") as caught:
            InternalCredential.from_env("WORKER_SECRET")
        assert str(caught.value).endswith("for every process that shares the credential")

    @cases("value", [value for value in WEAK if value])
    def test_a_value_that_can_be_guessed_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("WORKER_SECRET", value)
        with pytest.raises(ConfigurationError) as caught:
            InternalCredential.from_env("WORKER_SECRET")
        assert value not in "".join(traceback.format_exception(caught.value))
