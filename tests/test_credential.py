"""What a client presents, whom that vouches for, and which secrets are none."""

from __future__ import annotations

import base64
import random
import traceback
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from starlette.authentication import BaseUser

from asgi_wsauth import ConfigurationError, Credential, Principal
from asgi_wsauth.credential import bare_name, full_name
from asgi_wsauth.options import check_key, check_scopes, check_secret


class TestCredential:
    VALUE = "do-not-show-me"

    def test_row_36_no_way_to_print_it_shows_the_value(self) -> None:
        credential = Credential(self.VALUE, "query parameter token")
        printed = f"{credential} {credential!r} {[credential]} {{'credential': {credential!r}}}"
        assert self.VALUE not in printed
        assert "query parameter token" in printed
        assert credential.fingerprint in printed

    def test_a_credential_from_no_source_can_be_printed(self) -> None:
        assert repr(Credential("x")) == "<Credential 2d711642b726b044 from elsewhere>"

    def test_the_fingerprint_is_16_hex_digits_of_the_sha_256(self) -> None:
        assert Credential(self.VALUE).fingerprint == sha256(self.VALUE.encode()).hexdigest()[:16]

    def test_two_credentials_have_two_fingerprints(self) -> None:
        assert Credential("a").fingerprint != Credential("b").fingerprint

    def test_a_lone_surrogate_has_a_fingerprint_too(self) -> None:
        assert len(Credential("\udcff").fingerprint) == 16


class TestPrincipal:
    def test_an_identity_is_all_it_needs(self) -> None:
        principal = Principal("alice")
        assert isinstance(principal, BaseUser)
        assert principal.is_authenticated
        assert principal.identity == principal.display_name == "alice"
        assert principal.scopes == ()
        assert principal.claims == {}
        assert principal.method == "custom"
        assert principal.issued_at is principal.expires_at is None
        assert principal.token_id is principal.session_id is None
        assert principal.issuer is principal.login_method is None

    def test_keeps_what_it_is_given(self) -> None:
        principal = Principal(
            "alice",
            issuer="https://id.example",
            scopes=iter(["chat:read"]),
            claims={"sub": "alice"},
            issued_at=1.0,
            expires_at=2.0,
            token_id="t",
            session_id="s",
            display_name="Alice",
            method="ticket",
            login_method="jwt",
        )
        assert (principal.issuer, principal.login_method) == ("https://id.example", "jwt")
        assert principal.scopes == ("chat:read",)
        assert principal.claims == {"sub": "alice"}
        assert (principal.issued_at, principal.expires_at) == (1.0, 2.0)
        assert (principal.token_id, principal.session_id) == ("t", "s")
        assert (principal.display_name, principal.method) == ("Alice", "ticket")

    def test_an_empty_display_name_is_one(self) -> None:
        assert Principal("alice", display_name="").display_name == ""

    def test_channels_can_assign_to_its_attributes(self) -> None:
        """Channels' AuthMiddleware sets `scope["user"]._wrapped`."""
        principal: Any = Principal("alice")
        principal._wrapped = "bob"
        principal.scopes = ("chat:read",)
        assert (principal._wrapped, principal.scopes) == ("bob", ("chat:read",))
        assert not hasattr(principal, "__slots__")

    def test_two_principals_share_no_claims(self) -> None:
        one, other = Principal("alice"), Principal("bob")
        one.claims["admin"] = True
        assert other.claims == {}

    def test_the_callers_claims_stay_the_callers(self) -> None:
        claims = {"sub": "alice"}
        Principal("alice", claims=claims).claims["admin"] = True
        assert claims == {"sub": "alice"}

    def test_row_36_its_repr_shows_no_claim(self) -> None:
        principal = Principal("alice", claims={"email": "a@b.example"}, method="jwt")
        assert repr(principal) == "<Principal 'alice' by jwt>"

    @pytest.mark.parametrize("identity", ["", None, 0, 7, b"alice", True, ["alice"]])
    def test_an_identity_is_a_string_that_is_not_empty(self, identity: Any) -> None:
        with pytest.raises(ValueError, match="identity"):
            Principal(identity)

    @pytest.mark.parametrize("issuer", [0, 7, b"https://id.example", True, ["https://id.example"]])
    def test_an_issuer_is_a_string_or_none(self, issuer: Any) -> None:
        with pytest.raises(ValueError, match="issuer must be a string or None, got "):
            Principal("alice", issuer=issuer)

    def test_one_string_is_no_list_of_scopes(self) -> None:
        with pytest.raises(ValueError, match=r"^scopes: a list of strings"):
            Principal("alice", scopes="chat:read chat:write")

    @pytest.mark.parametrize("name", ["expires_at", "issued_at"])
    def test_row_8_a_time_that_compares_with_nothing_is_refused(self, name: str) -> None:
        """It would never expire, or be older than no revocation."""
        with pytest.raises(ValueError, match=rf"^{name}: Unix time in seconds, not NaN$"):
            Principal("alice", **{name: float("nan")})

    @pytest.mark.parametrize("expires_at", [0, -1.0, 1e300, float("inf")])
    def test_row_39_any_number_is_an_expiry(self, expires_at: float) -> None:
        assert Principal("alice", expires_at=expires_at).expires_at == expires_at


class TestFullName:
    """An issuer and a name as one text, for stores."""

    PARTS = ("", "a", "[", "]", "[]", "[1]", "[1]a ", " ", "1", "a b", "\x00", "é", "\ud800", "😀")

    def test_a_name_of_nobody_in_particular_is_itself(self) -> None:
        assert full_name("alice", None) == "alice"

    def test_no_two_pairs_have_the_same(self) -> None:
        pairs = [(name, issuer) for name in self.PARTS for issuer in (None, *self.PARTS)]
        assert len({full_name(name, issuer) for name, issuer in pairs}) == len(pairs)

    def test_the_name_can_be_read_from_it(self) -> None:
        for name in self.PARTS:
            for issuer in (None, *self.PARTS):
                assert bare_name(full_name(name, issuer)) == name

    @pytest.mark.parametrize("text", ["[5]", "[99999999999999]x", "[x] y", "[", "[-1]a"])
    def test_what_was_never_made_is_read_without_a_word(self, text: str) -> None:
        assert bare_name(text) in ("", text)


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
    @pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
    @pytest.mark.parametrize("size", [16, 32, 64])
    def test_row_14_random_secrets_pass(
        self, encode: Callable[[bytes], str | bytes], size: int
    ) -> None:
        """500 each, always the same ones, so that this can't fail once in a blue moon."""
        generator = random.Random(size)
        for _ in range(500):
            secret = encode(generator.randbytes(size))
            raw = secret.encode() if isinstance(secret, str) else secret
            assert check_secret("key", secret, minimum=16) == raw

    def test_row_14_a_passphrase_of_unrelated_words_passes(self) -> None:
        assert check_secret("key", "correct-horse-battery-staple", minimum=16)

    def test_a_string_counts_in_bytes_of_utf_8(self) -> None:
        secret = "äöüßéèêëåøæœ"
        assert check_secret("key", secret, minimum=24) == secret.encode()
        with pytest.raises(ConfigurationError, match="24 bytes are too few"):
            check_secret("key", secret, minimum=25)

    @pytest.mark.parametrize(
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
    def test_row_14_a_placeholder_is_no_secret(self, secret: str) -> None:
        for written in (secret, secret.encode(), secret.upper()):
            with pytest.raises(ConfigurationError, match=r"^key: this is a placeholder") as caught:
                check_secret("key", written, minimum=16)
            assert secret.lower() not in str(caught.value).lower()

    @pytest.mark.parametrize(
        "secret",
        ["=" * 64, "ab" * 32, "1234567" * 8, "0" * 32, b"\x00" * 64, b"\x00\xff" * 32],
        ids=range(6),
    )
    def test_row_14_hardly_any_different_characters_are_no_secret(self, secret: str) -> None:
        with pytest.raises(ConfigurationError, match="placeholder"):
            check_secret("key", secret, minimum=16)

    def test_row_14_five_different_characters_may_be_one(self) -> None:
        assert check_secret("key", "13524" * 5, minimum=16)

    @pytest.mark.parametrize("secret", ["", b""])
    def test_row_14_nothing_is_no_secret(self, secret: str | bytes) -> None:
        with pytest.raises(ConfigurationError, match="key: the secret is empty"):
            check_secret("key", secret, minimum=1)

    @pytest.mark.parametrize("size", [1, 31])
    def test_row_14_a_short_one_is_no_secret(self, size: int) -> None:
        secret = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1U"[:size]
        with pytest.raises(ConfigurationError, match=f"key: {size} bytes are too few.* 32") as info:
            check_secret("key", secret, minimum=32)
        assert size == 1 or secret not in str(info.value)

    @pytest.mark.parametrize("secret", [None, 12345678901234567890, ["a"], bytearray(40), object()])
    def test_row_14_what_is_no_string_is_no_secret(self, secret: object) -> None:
        with pytest.raises(ConfigurationError, match=f"key: a {type(secret).__name__} is no"):
            check_secret("key", secret, minimum=16)

    def test_an_environment_variable_that_is_no_utf_8_is_no_secret(self) -> None:
        """`os.environ` gives the bytes that it can't decode as lone surrogates."""
        with pytest.raises(ConfigurationError, match="key"):
            check_secret("key", "rF3vN8wq0ZtL6yJ2sXk9\udcff", minimum=16)

    @pytest.mark.parametrize(
        "secret", ["hunter2", "changeme-with-my-real-one-Kq8", "zyzyzyzyzyzyzyzyzyzyzyzyzyzyzyzyzy"]
    )
    def test_row_36_nothing_that_is_raised_tells_the_secret(self, secret: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_secret("key", secret, minimum=16)
        assert secret not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("secret", ["", "short", "changeme" * 8])
    def test_the_mend_is_a_command_that_makes_a_good_one(self, secret: str) -> None:
        with pytest.raises(ConfigurationError, match=r"secrets\.token_urlsafe\(32\)"):
            check_secret("key", secret, minimum=16)


class TestCheckKey:
    def test_16_visible_characters_are_enough(self) -> None:
        assert check_key("key", "Kq8rT2vX5y!~nM4c") == b"Kq8rT2vX5y!~nM4c"

    @pytest.mark.parametrize(
        ("key", "mend"),
        [
            ("Kq8rT2vX5y!~nM4", "15 bytes are too few, it takes at least 16"),
            ("Kq8rT2vX5y nM4cZ7w", "use only visible ASCII characters"),
            ("Kq8rT2vX5yänM4cZ7w", "use only visible ASCII characters"),
        ],
    )
    def test_what_nobody_can_present_or_anybody_guess_is_named(self, key: str, mend: str) -> None:
        with pytest.raises(ConfigurationError, match=rf"^key: {mend}") as caught:
            check_key("key", key)
        assert key not in str(caught.value)


class TestCheckScopes:
    @pytest.mark.parametrize("scopes", [[], ["chat:write"], ["https://a.example/b", "!#[]~"]])
    def test_words_without_spaces_quotes_and_backslashes(self, scopes: list[str]) -> None:
        """RFC 6749 section 3.3."""
        assert check_scopes("scopes", iter(scopes)) == tuple(scopes)

    @pytest.mark.parametrize(
        "scopes", [["a b"], [""], ['a"b'], ["a\\b"], ["ä"], [7], [None], ["a", "b\n"]]
    )
    def test_what_can_be_no_scope_is_named_with_an_example(self, scopes: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            check_scopes("scopes", scopes)
        shown, _, mend = str(caught.value).partition(" is no list of scopes; ")
        assert (shown, mend) == (f"scopes: {scopes!r}", 'write for example ["chat:write"]')

    @pytest.mark.parametrize("scopes", ["chat:write", None, 7])
    def test_what_is_no_list_is_named(self, scopes: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"^scopes: "):
            check_scopes("scopes", scopes)
