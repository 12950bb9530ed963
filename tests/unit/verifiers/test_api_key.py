"""API keys: only digests are kept, and an unknown key is "not mine"."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import pytest
from cases import cases
from handshakes import authenticator, judged, websocket
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    APIKeyVerifier,
    ConfigurationError,
    Credential,
    Denied,
    InternalCredential,
    Principal,
    Reason,
)
from asgi_wsauth.verifiers.chain import Misuse

KEY = "wsk_Kq8rT2vX5yB1nM4cZ7wL0sD3"
OTHER = "wsk_h6Jf9Gk2Pd5Wa8Qe1Ru4Ty7I"
DIGEST = sha256(KEY.encode()).hexdigest()
WEAK = ["", "short", KEY[:15], "changeme-changeme-changeme", "a" * 40, "your_api_key_goes_here"]


def everything(value: object, seen: set[int] | None = None) -> Iterator[object]:
    """`value` and whatever hangs on it, however deep."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    inner: list[object] = list(vars(value).values()) if hasattr(value, "__dict__") else []
    if isinstance(value, dict):
        inner += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner += value
    for one in inner:
        yield from everything(one, seen)


def holds(value: object, secret: str) -> bool:
    for found in everything(value):
        text = found.decode("latin-1") if isinstance(found, bytes) else found
        if isinstance(text, str) and secret in text:
            return True
    return False


@pytest.mark.anyio
class TestKeys:
    async def test_a_known_key_is_the_principal_of_its_id(self) -> None:
        verifier = APIKeyVerifier({"billing": KEY, "search": OTHER}, scopes=["chat:read"])
        for presented, identity in ((KEY, "billing"), (OTHER, "search")):
            principal = await judged(verifier, presented)
            assert principal is not None
            assert principal.identity == identity
            assert principal.scopes == ("chat:read",)
            assert principal.method == "api_key"
            assert principal.expires_at is None

    @cases(
        "presented",
        ["", "x", KEY[:-1], KEY + "x", KEY.lower(), f" {KEY}", DIGEST, f"sha256:{DIGEST}"],
    )
    @cases("configured", [KEY, f"sha256:{DIGEST}"], ids=["key", "digest"])
    async def test_an_unknown_key_is_not_mine(self, configured: str, presented: str) -> None:
        """Neither is the digest: who reads the configuration has no key yet."""
        assert await judged(APIKeyVerifier({"billing": configured}), presented) is None

    async def test_nobody_claims_an_unknown_key_so_it_is_invalid(self) -> None:
        auth = authenticator(APIKeyVerifier({"billing": KEY}), InternalCredential())
        with pytest.raises(Denied) as refused:
            await auth.authenticate(HTTPConnection(websocket(f"token={OTHER}")))
        assert refused.value.reason is Reason.INVALID

    @cases("digest", [DIGEST, DIGEST.upper()], ids=["lower", "upper"])
    async def test_a_digest_is_as_good_as_its_key(self, digest: str) -> None:
        principal = await judged(APIKeyVerifier({"billing": f"sha256:{digest}"}), KEY)
        assert principal is not None and principal.identity == "billing"

    async def test_only_the_digest_is_in_memory(self) -> None:
        verifier = APIKeyVerifier({"billing": KEY, "search": f"sha256:{DIGEST}"})
        assert holds(verifier, DIGEST)  # so the search does find what is there
        assert not holds(verifier, KEY)
        await judged(verifier, KEY)
        assert not holds(verifier, KEY)

    async def test_its_repr_names_ids_and_no_keys(self) -> None:
        verifier = APIKeyVerifier({"search": OTHER, "billing": KEY})
        assert repr(verifier) == "<APIKeyVerifier ['billing', 'search']>"


class TestConfiguration:
    @cases("key", WEAK)
    def test_a_key_that_can_be_guessed_is_refused(self, key: str) -> None:
        with pytest.raises(ConfigurationError, match="APIKeyVerifier: key number 2") as caught:
            APIKeyVerifier({"search": OTHER, "billing": key})
        shown = "".join(traceback.format_exception(caught.value))
        assert not key or key not in shown
        assert OTHER not in shown

    @cases("key", [None, 12345678901234567890, ["a"], object()])
    def test_what_is_no_string_is_refused(self, key: Any) -> None:
        with pytest.raises(ConfigurationError, match="APIKeyVerifier: key number 1"):
            APIKeyVerifier({"billing": key})

    @cases("digest", ["", "abc", DIGEST[:-1], DIGEST + "0", "g" * 64, DIGEST + "\n"])
    def test_what_is_no_digest_is_refused(self, digest: str) -> None:
        with pytest.raises(ConfigurationError, match=r"key number 1 must be .* 64 hex"):
            APIKeyVerifier({"billing": f"sha256:{digest}"})

    def test_swapped_ids_and_keys_show_no_key(self) -> None:
        with pytest.raises(ConfigurationError) as caught:
            APIKeyVerifier({KEY: "billing"})
        assert KEY not in str(caught.value)

    @cases("key", [f"{KEY} x", f"{KEY}é", f"{KEY}\x00"])
    def test_a_key_that_nobody_can_present_is_refused(self, key: str) -> None:
        with pytest.raises(ConfigurationError, match="visible ASCII"):
            APIKeyVerifier({"billing": key})

    def test_no_keys_at_all_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"^APIKeyVerifier: keys must have at"):
            APIKeyVerifier({})

    async def lookup(self, digest: str) -> Principal | None: ...

    def test_keys_and_lookup_are_one_or_the_other(self) -> None:
        for options in ({}, {"keys": {"billing": KEY}, "lookup": self.lookup}):
            build: Any = APIKeyVerifier
            with pytest.raises(
                ConfigurationError, match=r"^APIKeyVerifier must be given either keys or lookup"
            ):
                build(**options)

    def test_one_string_is_no_list_of_scopes(self) -> None:
        """It would be taken as a list of letters, and `Principal` refuses it for that reason."""
        with pytest.raises(
            ConfigurationError, match=r"^APIKeyVerifier: scopes must be a list, got one string"
        ):
            APIKeyVerifier({"billing": KEY}, scopes="chat:read")

    @cases("name", ["", None, 7])
    def test_an_id_that_no_principal_can_have_is_refused_at_once(self, name: Any) -> None:
        """And not when the key is used, as an ERROR."""
        with pytest.raises(
            ConfigurationError, match=r"^APIKeyVerifier: .* key number 2 must be a string"
        ):
            APIKeyVerifier({"search": OTHER, name: KEY})


@pytest.mark.anyio
class TestLookup:
    async def test_gets_the_hex_digest_and_never_the_key(self) -> None:
        asked: list[str] = []

        async def lookup(digest: str) -> Principal | None:
            asked.append(digest)
            return Principal("billing") if digest == DIGEST else None

        verifier = APIKeyVerifier(lookup=lookup)
        principal = await judged(verifier, KEY)
        assert principal is not None and principal.identity == "billing"
        assert await judged(verifier, OTHER) is None
        assert asked == [DIGEST, sha256(OTHER.encode()).hexdigest()]
        assert not holds(verifier, KEY)
        assert repr(verifier) == "<APIKeyVerifier by lookup>"

    async def test_is_asked_again_in_a_recheck(self) -> None:
        known = {DIGEST: Principal("billing")}

        async def lookup(digest: str) -> Principal | None:
            return known.get(digest)

        verifier, conn = APIKeyVerifier(lookup=lookup), HTTPConnection(websocket())
        assert await verifier.recheck(Credential(KEY), conn) is known[DIGEST]
        known.clear()
        assert await verifier.recheck(Credential(KEY), conn) is None

    async def test_what_it_raises_is_passed_on(self) -> None:
        async def lookup(digest: str) -> Principal | None:
            raise Denied(Reason.UNAVAILABLE, "the database is down")

        with pytest.raises(Denied) as refused:
            await judged(APIKeyVerifier(lookup=lookup), KEY)
        assert refused.value.reason is Reason.UNAVAILABLE

    async def test_one_that_turns_out_not_to_be_async_is_named(self) -> None:
        plain: Any = lambda digest: None  # noqa: E731 - which of a def would be known before
        with pytest.raises(Misuse, match=r"^APIKeyVerifier: lookup must be an async function"):
            await judged(APIKeyVerifier(lookup=plain), KEY)


class TestFromEnv:
    @pytest.mark.anyio
    @cases("value", [KEY, f" {KEY}\n", f"{KEY},", f"{OTHER},{KEY}", f"{OTHER} , {KEY}, "])
    async def test_takes_one_key_or_several(
        self, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv("CHAT_KEY", value)
        verifier = APIKeyVerifier.from_env("CHAT_KEY", scopes=["chat:read"])
        for presented in (KEY, OTHER):
            principal = await judged(verifier, presented)
            if presented not in value:
                assert principal is None
            else:
                assert principal is not None
                assert (principal.identity, principal.scopes) == ("CHAT_KEY", ("chat:read",))
        assert await judged(verifier, value + ",") is None
        assert await judged(verifier, "") is None
        assert not holds(verifier, KEY)
        assert repr(verifier) == "<APIKeyVerifier ['CHAT_KEY']>"

    @pytest.mark.anyio
    async def test_takes_digests_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHAT_KEY", f"{OTHER},sha256:{DIGEST}")
        assert await judged(APIKeyVerifier.from_env("CHAT_KEY"), KEY) is not None

    @cases("value", [None, "", " ", ",", " , ,"])
    def test_a_variable_that_is_not_set_is_refused_by_name(
        self, monkeypatch: pytest.MonkeyPatch, value: str | None
    ) -> None:
        monkeypatch.delenv("CHAT_KEY", raising=False)
        if value is not None:
            monkeypatch.setenv("CHAT_KEY", value)
        with pytest.raises(ConfigurationError, match="CHAT_KEY is not set") as caught:
            APIKeyVerifier.from_env("CHAT_KEY")
        assert str(caught.value).endswith(
            "put an API key into it, or several with commas between them"
        )

    @cases("key", [key for key in WEAK if key])
    @cases("form", ["{}", KEY + ",{}", "{}," + KEY])
    def test_a_key_that_can_be_guessed_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, key: str, form: str
    ) -> None:
        monkeypatch.setenv("CHAT_KEY", form.format(key))
        number = 2 if form == KEY + ",{}" else 1
        named = rf"^APIKeyVerifier.from_env\('CHAT_KEY'\): key number {number} must "
        with pytest.raises(ConfigurationError, match=named) as caught:
            APIKeyVerifier.from_env("CHAT_KEY")
        shown = "".join(traceback.format_exception(caught.value))
        assert key not in shown
        assert KEY not in shown
