"""What a client presents, and whom that vouches for."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from cases import cases
from handshakes import jwt_verifier, mint, websocket
from starlette.authentication import BaseUser
from starlette.requests import HTTPConnection

from asgi_wsauth import Authenticator, Credential, Denied, Principal, QueryParam, Subprotocol
from asgi_wsauth.credential import bare_name, decode_base64url, full_name


class TestCredential:
    VALUE = "do-not-show-me"

    def test_no_way_to_print_it_shows_the_value(self) -> None:
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

    def test_its_repr_shows_no_claim(self) -> None:
        principal = Principal("alice", claims={"email": "a@b.example"}, method="jwt")
        assert repr(principal) == "<Principal 'alice' by jwt>"

    @cases("identity", ["", None, 0, 7, b"alice", True, ["alice"]])
    def test_an_identity_is_a_string_that_is_not_empty(self, identity: Any) -> None:
        with pytest.raises(ValueError, match="identity"):
            Principal(identity)

    @cases("issuer", [0, 7, b"https://id.example", True, ["https://id.example"]])
    def test_an_issuer_is_a_string_or_none(self, issuer: Any) -> None:
        with pytest.raises(ValueError, match="issuer must be a string or None, got "):
            Principal("alice", issuer=issuer)

    def test_a_text_may_be_of_a_class_of_ones_own(self) -> None:
        class Issuer(str):
            pass

        assert Principal("alice", issuer=Issuer("https://id")).issuer == "https://id"

    def test_one_string_is_no_list_of_scopes(self) -> None:
        with pytest.raises(ValueError, match=r"^scopes must be a list, got one string"):
            Principal("alice", scopes="chat:read chat:write")

    @cases("name", ["expires_at", "issued_at"])
    def test_a_time_that_compares_with_nothing_is_refused(self, name: str) -> None:
        """It would never expire, or be older than no revocation."""
        with pytest.raises(ValueError, match=rf"^{name} must be Unix time in seconds, got nan$"):
            Principal("alice", **{name: float("nan")})

    @cases("expires_at", [0, -1.0, 1e300, float("inf")])
    def test_any_number_is_an_expiry(self, expires_at: float) -> None:
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

    @cases("text", ["[5]", "[99999999999999]x", "[x] y", "[", "[-1]a"])
    def test_what_was_never_made_is_read_without_a_word(self, text: str) -> None:
        assert bare_name(text) in ("", text)


# base64url


@pytest.mark.parametrize(
    "text", ["YQ==", "Y Q", "YQ\n", "YR", "a+b/", "++++", "////", "ä", "Y", "YQ=", "\x00"]
)
def test_only_the_exact_form_of_base64url_is_read(text: str) -> None:
    with pytest.raises(ValueError):
        decode_base64url(text)


def test_base64url_is_read() -> None:
    assert [decode_base64url(text) for text in ("", "YQ", "-_-_")] == [b"", b"a", b"\xfb\xff\xbf"]


@pytest.mark.anyio
async def test_nothing_from_strangers_reaches_the_decoder_that_warns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python 3.15 warns of `+` and `/` in base64url."""
    seen: list[Any] = []
    decode = base64.urlsafe_b64decode

    def watched(text: Any) -> bytes:
        seen.append(text if isinstance(text, str) else bytes(text).decode())
        return decode(text)

    monkeypatch.setattr(base64, "urlsafe_b64decode", watched)
    token = mint()
    auth = Authenticator(
        [jwt_verifier()], sources=[QueryParam(), Subprotocol(prefix="base64url.bearer.")]
    )
    for place in range(0, len(token), 7):
        for odd in "+/":
            changed = f"{token[:place]}{odd}{token[place + 1 :]}"
            for scope in (
                websocket(urlencode({"token": changed})),
                websocket(subprotocols=[f"base64url.bearer.{changed}", "chat"]),
            ):
                with pytest.raises(Denied):
                    await auth.authenticate(HTTPConnection(scope))
    assert not [text for text in seen if {"+", "/"} & set(text)]
