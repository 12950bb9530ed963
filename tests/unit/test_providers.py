"""docs/guides/providers.md: each recipe as it stands, with tokens as the provider issues them.
The access token is admitted; the others that the same keys sign are refused, for the reason that
the recipe gives, and so are those of another app and of another tenant.

The names of tenants and people are invented. What a token has in it is from the provider's own
documentation, or from a token.
"""

from __future__ import annotations

import json
import logging
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest
from cases import cases
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from handshakes import App, drive, websocket
from internet import internet
from issuer import Issuer, certificate, jwk
from joserfc import jwe
from joserfc.jwk import OctKey
from keys import P256_KEY, P256_OTHER, RSA_KEY, RSA_OTHER
from pages import PAGES, ROOT, code_in
from starlette.requests import HTTPConnection

from asgi_wsauth import (
    Authenticator,
    Denied,
    Principal,
    Reason,
    RedactCredentials,
    WebSocketAuthMiddleware,
)

pytestmark = pytest.mark.anyio

PAGE = PAGES["docs/guides/providers.md"]
SECRET = "rF3vN8wq0ZtL6yJ2sXk9Bd4HmPc7Ga1UeRi5ToVz"
SECRETS = "DJANGO_SECRET_KEY SECRET SECRET_KEY HASURA_KEY CLIENT_SECRET AUTH_SECRET".split()
KID = "0aa9c1f0-3d7a-4f2b-9b1e-5c1d2e3f4a5b"
INVALID, EXPIRED = Reason.INVALID, Reason.EXPIRED


def recipes() -> dict[str, str]:
    """The blocks of the page, by the heading that they stand under: `keycloak`, `keycloak_2`."""
    found: dict[str, str] = {}
    for heading, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M):
        name = re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")
        blocks = code_in(text)
        for number, code in enumerate(blocks, 1):
            found[name if number == 1 else f"{name}_{number}"] = code
    return found


RECIPES = recipes()


# Tokens


def now() -> int:
    return int(time.time())


def token(claims: dict[str, Any], *, key: Any = RSA_KEY, typ: str = "JWT", **header: Any) -> str:
    """A token that is good now, unless these claims say otherwise; None leaves one out."""
    claims = {"iat": now() - 5, "exp": now() + 3600, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    algorithm = "HS256" if isinstance(key, str) else "RS256"
    if key in (P256_KEY, P256_OTHER):
        algorithm = "ES256"
    headers = {"typ": typ, **({} if isinstance(key, str) else {"kid": KID}), **header}
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


class Kind(NamedTuple):
    """Another token than the access token."""

    token: str
    why: str  # what the log says of it


class Provider(NamedTuple):
    access: dict[str, Any]  # what the access token says
    identity: str
    scopes: tuple[str, ...]
    others: dict[str, Kind]
    key: Any = RSA_KEY
    header: dict[str, Any] = {}  # noqa: RUF012 - never changed
    pages: dict[str, Any] = {}  # noqa: RUF012
    source: str = ""  # the request's header, if not a query parameter

    def signed(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """The access token, with these claims over its own."""
        header = {**self.header, **(header or {})}
        return token({**self.access, **claims}, key=self.key, **header)


KEYS = {"keys": [jwk(RSA_KEY, KID, alg="RS256"), jwk(P256_KEY, KID, alg="ES256")]}
NOT_MINE = "no verifier recognised the credential"
BACK_CHANNEL = {"http://schemas.openid.net/event/backchannel-logout": {}}


def pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


def discovered(issuer: str, keys: str = "", at: str = "") -> dict[str, Any]:
    """The pages of an issuer: its configuration and its keys."""
    keys = keys or f"{issuer.rstrip('/')}/keys"
    at = at or f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    return {at: {"issuer": issuer, "jwks_uri": keys}, keys: KEYS}


def logout(issuer: str, client: str, **more: Any) -> Kind:
    """An OpenID Connect Back-Channel Logout token."""
    claims = {"iss": issuer, "aud": client, "sub": "alice", "sid": "s1", "jti": "l1"}
    claims |= {"events": BACK_CHANNEL, **more}
    return Kind(token(claims, typ="logout+jwt"), "its typ is not that of a login")


# The providers. Each has a refresh token, an ID token, a logout token, a token of another app and
# one of another tenant, as far as there is such a thing.

PROVIDERS: dict[str, Provider] = {}

_ = "https://acme.eu.auth0.com/"
_access = {
    "iss": _,
    "sub": "auth0|6553da60a54af58e29493993",
    "aud": ["https://chat.example/api", "https://acme.eu.auth0.com/userinfo"],
    "azp": "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja",
    "scope": "openid profile chat:read",
    "permissions": ["chat:write"],
}
PROVIDERS["auth0"] = Provider(
    _access,
    "auth0|6553da60a54af58e29493993",
    ("openid", "profile", "chat:read", "chat:write"),
    {
        "refresh": Kind("v1.MjQ1NzY4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMw", NOT_MINE),
        "ID": Kind(
            token(
                {
                    "iss": _,
                    "sub": _access["sub"],
                    "aud": _access["azp"],
                    "name": "Alice",
                    "sid": "s",
                }
            ),
            "its aud is 'K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja'",
        ),
        "logout": logout(_, "K1AUPhZq8mRi0Q0pjhkfu1D7y6KjDQja"),
        "another app's": Kind(
            token({**_access, "aud": ["https://shop.example/api", f"{_}userinfo"]}),
            "its aud is 'https://shop.example/api'",
        ),
        "another tenant's": Kind(
            token({**_access, "iss": "https://evil.eu.auth0.com/"}),
            f"{NOT_MINE}: its iss is 'https://evil.eu.auth0.com/'",
        ),
    },
    pages=discovered(_, f"{_}.well-known/jwks.json"),
)

_ = "https://acme.okta.com/oauth2/default"
_access = {
    "ver": 1,
    "jti": "AT.8x1",
    "iss": _,
    "aud": "api://chat",
    "cid": "0oa1web",
    "uid": "00u1alice",
    "scp": ["openid", "chat"],
    "sub": "alice@acme.example",
    "auth_time": now() - 60,
}
PROVIDERS["okta"] = Provider(
    _access,
    "00u1alice",
    ("openid", "chat"),
    {
        "refresh": Kind("oBF1uZ8kq2y_1QWcJZ4n6rW9xY3bT7vK5mL0pS8dF2g", NOT_MINE),
        "ID": Kind(
            token({"ver": 1, "iss": _, "sub": "00u1alice", "aud": "0oa1web", "amr": ["pwd"]}),
            "its aud is '0oa1web'",
        ),
        "logout": logout(_, "0oa1web"),
        "another app's": Kind(token({**_access, "cid": "0oa9shop"}), "its cid is '0oa9shop'"),
        "another tenant's": Kind(
            token({**_access, "iss": "https://evil.okta.com/oauth2/default"}), NOT_MINE
        ),
        "the organisation's own": Kind(
            token({**_access, "iss": "https://acme.okta.com", "aud": "https://acme.okta.com"}),
            NOT_MINE,
        ),
        "a program's, which has no user": Kind(
            token({**_access, "uid": None, "sub": "0oa1web"}), "it has no uid"
        ),
    },
    pages=discovered(_, f"{_}/v1/keys"),
)

TENANT = "7a0c0f4e-31d4-4b5a-9f0a-5d7c0f2b8e11"
EVIL = "00000000-31d4-4b5a-9f0a-5d7c0f2b8e11"
CHAT, PAGES = "c2a1c1de-8a3c-4d53-a7f5-0f5a8b6f7d22", "e9d5b4b8-6a2e-4f3e-b1f0-2a6c3d4e5f33"
OID = "1f2e3d4c-0000-4000-8000-a1b2c3d4e5f6"
_ = f"https://login.microsoftonline.com/{TENANT}/v2.0"
_access = {
    "ver": "2.0",
    "iss": _,
    "aud": CHAT,
    "azp": PAGES,
    "azpacr": "0",
    "oid": OID,
    "tid": TENANT,
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "scp": "chat.read chat.write",
    "roles": ["Moderator"],
    "uti": "u1",
}
_id = {"ver": "2.0", "iss": _, "aud": CHAT, "oid": OID, "tid": TENANT, "sub": "A", "name": "Alice"}
PROVIDERS["entra"] = Provider(
    _access,
    OID,
    ("chat.read", "chat.write", "Moderator"),
    {
        "refresh": Kind("1.AYEAT8w6evQxWkufCl18Dy6OEd7BocI8ilNNp_U-sfJo0", NOT_MINE),
        "ID": Kind(token(_id), "it has no azp"),
        "logout": logout(_, CHAT),
        "another app's": Kind(token({**_access, "azp": TENANT}), f"its azp is '{TENANT}'"),
        "another app's, for another API": Kind(
            token({**_access, "aud": "00000003-0000-0000-c000-000000000000"}), "its aud is"
        ),
        "another tenant's": Kind(
            token({**_access, "iss": _.replace(TENANT, EVIL), "tid": EVIL}), NOT_MINE
        ),
    },
    pages=discovered(_, f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"),
)

_ = f"https://sts.windows.net/{TENANT}/"
_access = {
    "ver": "1.0",
    "iss": _,
    "aud": "api://chat.example",
    "appid": PAGES,
    "appidacr": "0",
    "oid": OID,
    "tid": TENANT,
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "scp": "chat.read",
    "roles": None,
    "upn": "alice@acme.example",
}
PROVIDERS["entra_2"] = Provider(
    _access,
    OID,
    ("chat.read",),
    {
        "refresh": Kind("0.AYEAT8w6evQxWkufCl18Dy6OEd7BocI8ilNNp_U-sfJo0", NOT_MINE),
        "ID": Kind(
            token({**_id, "iss": _, "ver": "1.0", "aud": "api://chat.example"}), "it has no appid"
        ),
        "logout": logout(_, PAGES),
        "another app's": Kind(token({**_access, "appid": EVIL}), f"its appid is '{EVIL}'"),
        "another tenant's": Kind(
            token({**_access, "iss": _.replace(TENANT, EVIL), "tid": EVIL}), NOT_MINE
        ),
    },
    pages=discovered(
        _,
        "https://login.microsoftonline.com/common/discovery/keys",
        f"https://login.microsoftonline.com/{TENANT}/.well-known/openid-configuration",
    ),
)

_ = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI"
_access = {
    "iss": _,
    "sub": "5e1c0d3a-0000-4000-8000-a1b2c3d4e5f6",
    "client_id": "2web5client",
    "username": "alice",
    "token_use": "access",
    "scope": "aws.cognito.signin.user.admin chat/read",
    "cognito:groups": ["moderators"],
    "origin_jti": "o1",
    "event_id": "e1",
    "jti": "j1",
}
_id = {
    "iss": _,
    "sub": _access["sub"],
    "aud": "2web5client",
    "token_use": "id",
    "cognito:username": "alice",
    "cognito:groups": ["moderators"],
}
PROVIDERS["amazon_cognito"] = Provider(
    _access,
    "5e1c0d3a-0000-4000-8000-a1b2c3d4e5f6",
    ("aws.cognito.signin.user.admin", "chat/read", "moderators"),
    {
        "refresh": Kind("eyJjdHkiOiJKV1QiLCJlbmMiOiJBMjU2R0NNIn0.a.b.c.d", NOT_MINE),
        "ID": Kind(token(_id), "its aud is '2web5client', but no audience= is set"),
        "ID, if it were like an access token": Kind(
            token({**_access, "token_use": "id"}), "its token_use is 'id'"
        ),
        "logout": logout(_, "2web5client"),
        "another app's": Kind(token({**_access, "client_id": "9shop"}), "its client_id is '9shop'"),
        "another tenant's": Kind(token({**_access, "iss": _[:-1] + "J"}), NOT_MINE),
    },
    pages=discovered(_, f"{_}/.well-known/jwks.json"),
)

_ = "https://accounts.google.com"
_access = {
    "iss": _,
    "azp": "1234-chat.apps.googleusercontent.com",
    "aud": "1234-chat.apps.googleusercontent.com",
    "sub": "110169484474386276334",
    "hd": "acme.example",
    "email": "alice@acme.example",
    "email_verified": True,
}
PROVIDERS["google_sign_in"] = Provider(
    _access,
    "110169484474386276334",
    (),
    {
        "refresh": Kind("1//04dXy7-Nn0Tc1Q", NOT_MINE),
        "ID": Kind(  # it is the login here, so this one is a program's
            token({**_access, "hd": None, "email": "robot@acme.iam.gserviceaccount.com"}),
            "it has no hd",
        ),
        "access": Kind("ya29.a0AfB_byC-1x2y3z", NOT_MINE),
        "logout": logout(_, "1234-chat.apps.googleusercontent.com"),
        "another app's": Kind(
            token({**_access, "aud": "9876-shop.apps.googleusercontent.com"}), "its aud is '9876-"
        ),
        "another tenant's": Kind(token({**_access, "hd": "evil.example"}), "its hd is 'evil."),
        "another issuer's": Kind(
            token({**_access, "iss": "https://accounts.google.com/o"}), NOT_MINE
        ),
    },
    pages={"https://www.googleapis.com/oauth2/v3/certs": KEYS},
)

_ = "https://securetoken.google.com/acme-chat"
_access = {
    "iss": _,
    "aud": "acme-chat",
    "auth_time": now() - 60,
    "user_id": "Zx9AliceUid",
    "sub": "Zx9AliceUid",
    "email": "alice@acme.example",
    "firebase": {"identities": {}, "sign_in_provider": "password"},
}
PROVIDERS["firebase"] = Provider(
    _access,
    "Zx9AliceUid",
    (),
    {
        "refresh": Kind("AMf-vBxQ1w2e3r4t5y6u7i8o9p0", NOT_MINE),
        "ID": Kind(  # it is the login here, so this one is of another service with these keys
            token({**_access, "auth_time": None}), "it has no auth_time"
        ),
        "session cookie": Kind(
            token({**_access, "iss": "https://session.firebase.google.com/acme-chat"}), NOT_MINE
        ),
        "custom token": Kind(
            token(
                {
                    "iss": "robot@acme-chat.iam.gserviceaccount.com",
                    "sub": "robot@acme-chat.iam.gserviceaccount.com",
                    "aud": "https://identitytoolkit.googleapis.com/google.identity.identitytoolkit"
                    ".v1.IdentityToolkit",
                    "uid": "Zx9AliceUid",
                },
                key=RSA_OTHER,
            ),
            NOT_MINE,
        ),
        "logout": logout(_, "acme-chat"),
        "another app's": Kind(token({**_access, "aud": "acme-shop"}), "its aud is 'acme-shop'"),
        "another tenant's": Kind(
            token({**_access, "iss": "https://securetoken.google.com/evil", "aud": "evil"}),
            NOT_MINE,
        ),
    },
    pages={
        "https://www.googleapis.com/robot/v1/metadata/x509/"
        "securetoken@system.gserviceaccount.com": {
            KID: certificate(RSA_KEY).public_bytes(Encoding.PEM).decode()
        }
    },
)

_ = "https://cloud.google.com/iap"
_access = {
    "iss": _,
    "aud": "/projects/123456789/global/backendServices/987654321",
    "azp": "/projects/123456789/global/backendServices/987654321",
    "sub": "accounts.google.com:110169484474386276334",
    "email": "alice@acme.example",
    "hd": "acme.example",
}
PROVIDERS["google_identity_aware_proxy"] = Provider(
    _access,
    "accounts.google.com:110169484474386276334",
    (),
    {
        "refresh": Kind("1//04dXy7-Nn0Tc1Q", NOT_MINE),
        "ID": Kind(
            token({**_access, "iss": "https://accounts.google.com"}, key=P256_KEY), NOT_MINE
        ),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=P256_KEY), "Security Event Token"
        ),
        "another app's": Kind(
            token({**_access, "aud": "/projects/123456789/global/backendServices/1"}, key=P256_KEY),
            "its aud is",
        ),
        "another tenant's": Kind(
            token({**_access, "aud": "/projects/666/apps/evil"}, key=P256_KEY), "its aud is"
        ),
    },
    key=P256_KEY,
    pages={"https://www.gstatic.com/iap/verify/public_key": {KID: pem(P256_KEY)}},
    source="x-goog-iap-jwt-assertion",
)

_ = "https://acme.cloudflareaccess.com"
_access = {
    "iss": _,
    "aud": ["32eafc7626e974616deaf0dc3ce63d7bcbed58a2731e84d06bc3cdf1b53c4228"],
    "email": "alice@acme.example",
    "type": "app",
    "identity_nonce": "6ei69kawdKzMIAPF",
    "sub": "7335d417-61da-459d-899c-0a01c76a2f94",
    "country": "DE",
}
PROVIDERS["cloudflare_access"] = Provider(
    _access,
    "7335d417-61da-459d-899c-0a01c76a2f94",
    (),
    {
        "refresh": Kind("af_refresh_opaque", NOT_MINE),
        "ID": Kind(token({**_access, "type": "org"}), "its type is 'org'"),
        "logout": logout(_, "32eafc76"),
        "another app's": Kind(token({**_access, "aud": ["9"]}), "its aud is '9'"),
        "another tenant's": Kind(
            token({**_access, "iss": "https://evil.cloudflareaccess.com"}), NOT_MINE
        ),
        "a program's, which has no user": Kind(
            token({**_access, "sub": "", "common_name": "e367.access"}), "it has no sub"
        ),
    },
    pages={
        f"{_}/cdn-cgi/access/certs": {
            **KEYS,
            "public_cert": {"kid": KID, "cert": "-----BEGIN CERTIFICATE-----"},
            "public_certs": [{"kid": KID, "cert": "-----BEGIN CERTIFICATE-----"}],
        }
    },
    source="cf-access-jwt-assertion",
)

_ = REALM = "https://id.acme.example/realms/main"
_access = {
    "iss": _,
    "aud": ["chat", "account"],
    "sub": "f:alice",
    "typ": "Bearer",
    "azp": "web",
    "sid": "s1",
    "jti": "onrtac:1",
    "scope": "openid email",
    "realm_access": {"roles": ["offline_access", "user"]},
    "resource_access": {"chat": {"roles": ["speaker"]}, "account": {"roles": ["view-profile"]}},
    "preferred_username": "alice",
}
_id = {"iss": _, "aud": "web", "sub": "f:alice", "typ": "ID", "azp": "web", "sid": "s1"}
_others = {
    "refresh": Kind(
        token({"iss": _, "aud": _, "sub": "f:alice", "typ": "Refresh", "azp": "web"}, key=SECRET),
        "its alg is not among the algorithms",
    ),
    "refresh, if these keys signed it": Kind(
        token({**_access, "aud": ["chat", "account"], "typ": "Refresh"}), "its typ is 'Refresh'"
    ),
    "offline": Kind(token({**_access, "typ": "Offline"}), "its typ is 'Offline'"),
    "ID": Kind(token(_id), "its aud is 'web'"),
    "ID, if it were for us": Kind(token({**_id, "aud": ["chat", "account"]}), "its typ is 'ID'"),
    "logout": logout(_, "web", typ="Logout"),
    "another app's": Kind(token({**_access, "azp": "shop"}), "its azp is 'shop'"),
    "another tenant's": Kind(token({**_access, "iss": _.replace("main", "evil")}), NOT_MINE),
}
_scopes = ("openid", "email", "offline_access", "user", "speaker")
_pages = discovered(_, f"{_}/protocol/openid-connect/certs")
PROVIDERS["keycloak"] = Provider(_access, "f:alice", _scopes, _others, pages=_pages)
PROVIDERS["keycloak_2"] = Provider(
    {**_access, "aud": "account"}, "f:alice", _scopes, _others, pages=_pages
)

_ = "https://abcdefghijklmnopqrst.supabase.co/auth/v1"
_access = {
    "iss": _,
    "aud": "authenticated",
    "sub": "123e4567-e89b-12d3-a456-426614174000",
    "role": "authenticated",
    "aal": "aal1",
    "session_id": "123e4567-e89b-12d3-a456-426614174001",
    "is_anonymous": False,
    "amr": [{"method": "password", "timestamp": now()}],
    "app_metadata": {"provider": "email"},
    "user_metadata": {"roles": ["admin"]},
}
PROVIDERS["supabase"] = Provider(
    _access,
    "123e4567-e89b-12d3-a456-426614174000",
    (),
    {
        "refresh": Kind("kx7mq2vw9zab", NOT_MINE),
        "ID": Kind(
            token({**_access, "aud": "web", "role": None, "session_id": None}, key=P256_KEY),
            "its aud is 'web'",
        ),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=P256_KEY), "Security Event Token"
        ),
        "another app's": Kind(  # the project's own key, which pages have
            token({"iss": "supabase", "ref": "abcdefghijklmnopqrst", "role": "anon"}, key=SECRET),
            NOT_MINE,
        ),
        "another tenant's": Kind(
            token({**_access, "iss": _.replace("abc", "evil")}, key=P256_KEY), NOT_MINE
        ),
        "an administrator's": Kind(
            token({**_access, "role": "service_role"}, key=P256_KEY), "its role is 'service_role'"
        ),
        "a visitor's without an account": Kind(
            token({**_access, "is_anonymous": True}, key=P256_KEY), "its is_anonymous is True"
        ),
    },
    key=P256_KEY,
    pages={f"{_}/.well-known/jwks.json": KEYS},
)

_ = "https://clerk.acme.example"
_access = {
    "iss": _,
    "azp": "https://chat.acme.example",
    "sub": "user_2alice",
    "sid": "sess_1",
    "nbf": now() - 15,
    "fva": [7, -1],
    "v": 2,
}
PROVIDERS["clerk"] = Provider(
    _access,
    "user_2alice",
    (),
    {
        "refresh": Kind("dvb_2cLiEnTtOkEn", NOT_MINE),
        "ID": Kind(
            token({"iss": _, "sub": "user_2alice", "aud": "oauthclient", "nonce": "n"}),
            "its aud is 'oauthclient', but no audience= is set",
        ),
        "logout": logout(_, "oauthclient"),
        "another app's": Kind(
            token({**_access, "azp": "https://shop.acme.example"}), "its azp is 'https://shop"
        ),
        "another tenant's": Kind(token({**_access, "iss": "https://clerk.evil.example"}), NOT_MINE),
        "a template's": Kind(
            token({"iss": _, "sub": "user_2alice", "azp": _access["azp"]}), "it has no sid"
        ),
    },
    pages=discovered(_, f"{_}/.well-known/jwks.json"),
)

_access = {"token_type": "access", "jti": "5f4dcc3b5aa765d61d8327deb882cf99", "user_id": 7}
PROVIDERS["django_rest_framework_simplejwt"] = Provider(
    _access,
    "7",
    (),
    {
        "refresh": Kind(
            token({**_access, "token_type": "refresh"}, key=SECRET), "its token_type is 'refresh'"
        ),
        "ID": Kind(token({**_access, "token_type": None}, key=SECRET), "it has no token_type"),
        "sliding": Kind(
            token({**_access, "token_type": "sliding"}, key=SECRET), "its token_type is 'sliding'"
        ),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=SECRET), "Security Event Token"
        ),
        "another app's": Kind(token({**_access, "aud": "shop"}, key=SECRET), "its aud is 'shop'"),
        "another tenant's": Kind(token(_access, key=SECRET[::-1]), "no key verifies its signature"),
        "one of Django's own tokens": Kind("c7q3vm-5f4dcc3b5aa765d61d8327deb882cf99", NOT_MINE),
    },
    key=SECRET,
)

_ = "fastapi-users"
_access = {"sub": "f0a1b2c3-0000-4000-8000-a1b2c3d4e5f6", "aud": [f"{_}:auth"], "iat": None}
PROVIDERS["fastapi_users_and_fastapi_s_tutorial"] = Provider(
    _access,
    "f0a1b2c3-0000-4000-8000-a1b2c3d4e5f6",
    (),
    {
        "refresh": Kind("no-refresh-tokens-there", NOT_MINE),
        "ID": Kind(token({**_access, "aud": f"{_}:oauth-state"}, key=SECRET), "its aud is"),
        "verify": Kind(token({**_access, "aud": f"{_}:verify"}, key=SECRET), "its aud is"),
        "reset": Kind(token({**_access, "aud": f"{_}:reset"}, key=SECRET), "its aud is"),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=SECRET), "Security Event Token"
        ),
        "another app's": Kind(token({**_access, "aud": None}, key=SECRET), "it has no aud"),
        "another tenant's": Kind(token(_access, key=SECRET[::-1]), "no key verifies its signature"),
    },
    key=SECRET,
)
_access = {"sub": "johndoe", "iat": None}
PROVIDERS["fastapi_users_and_fastapi_s_tutorial_2"] = Provider(
    _access,
    "johndoe",
    (),
    {
        "refresh": Kind(
            token({**_access, "aud": "refresh"}, key=SECRET), "its aud is 'refresh', but no"
        ),
        "ID": Kind(token({**_access, "exp": None, "sub": None}, key=SECRET), "it has no exp"),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=SECRET), "Security Event Token"
        ),
        "another app's": Kind(token({**_access, "aud": "shop"}, key=SECRET), "its aud is 'shop'"),
        "another tenant's": Kind(token(_access, key=SECRET[::-1]), "no key verifies its signature"),
    },
    key=SECRET,
)

_ = "https://hasura.io/jwt/claims"
_access = {
    "sub": "login-1",
    _: {
        "x-hasura-user-id": "7",
        "x-hasura-default-role": "user",
        "x-hasura-allowed-roles": ["user", "editor"],
    },
}
PROVIDERS["hasura"] = Provider(
    _access,
    "7",
    ("user", "editor"),
    {
        "refresh": Kind(token({"sub": "login-1"}, key=SECRET), "it has no ('https://hasura.io"),
        "ID": Kind(
            token({"sub": "login-1", f"{_}.x-hasura-user-id": "7"}, key=SECRET), "it has no ("
        ),
        "logout": Kind(
            token({**_access, "events": BACK_CHANNEL}, key=SECRET), "Security Event Token"
        ),
        "another app's": Kind(token({**_access, "aud": "shop"}, key=SECRET), "its aud is 'shop'"),
        "another tenant's": Kind(token(_access, key=SECRET[::-1]), "no key verifies its signature"),
    },
    key=SECRET,
)

_ = "https://kubernetes.default.svc.cluster.local"
_access = {
    "iss": _,
    "aud": ["chat"],
    "sub": "system:serviceaccount:jobs:indexer",
    "jti": "k1",
    "kubernetes.io": {
        "namespace": "jobs",
        "pod": {"name": "indexer-1", "uid": "p"},
        "serviceaccount": {"name": "indexer", "uid": "u"},
    },
}
PROVIDERS["kubernetes_service_accounts"] = Provider(
    _access,
    "system:serviceaccount:jobs:indexer",
    (),
    {
        "refresh": Kind("bootstrap.0123456789abcdef", NOT_MINE),
        "ID": Kind(token({**_access, "aud": [_, "k3s"]}), f"its aud is '{_}', 'k3s'"),
        "a legacy token of a secret": Kind(
            token({**_access, "iss": "kubernetes/serviceaccount", "exp": None}), NOT_MINE
        ),
        "another cluster's": Kind(
            token({**_access, "iss": "https://kubernetes.default.svc.evil.example"}), NOT_MINE
        ),
        "logout": logout(_, "chat"),
        "another app's": Kind(token({**_access, "aud": ["vault"]}), "its aud is 'vault'"),
        "another tenant's": Kind(
            token({**_access, "kubernetes.io": {"namespace": "evil"}}),
            "its ('kubernetes.io', 'namespace') is 'evil'",
        ),
    },
    pages={"https://kubernetes.default.svc/openid/v1/jwks": KEYS},
)


# The recipes, run


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Issuer]:
    """The servers of all providers."""
    pages = {url: page for provider in PROVIDERS.values() for url, page in provider.pages.items()}
    pages[f"{BALANCERS_KEYS}/{KID}"] = pem(P256_KEY).encode()
    hosts = {url.split("/")[2] for url in [*pages, REALM]}
    with internet(tmp_path_factory.mktemp("web"), *sorted(hosts)) as web:
        web.pages |= pages
        web.keep()
        yield web


class Builder:
    """Builds recipes: what their `auth` is."""

    def __init__(self, web: Issuer, pod: Path) -> None:
        self.clear = web.clear
        self.pod = pod

    def __call__(self, name: str) -> Authenticator:
        code = RECIPES[name].replace("/var/run/secrets/kubernetes.io/serviceaccount", str(self.pod))
        namespace: dict[str, Any] = {}
        exec(code, namespace)
        auth = namespace["auth"]
        assert isinstance(auth, Authenticator)
        return auth


@pytest.fixture
def built(
    web: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Builder:
    for name in SECRETS:
        monkeypatch.setenv(name, SECRET)
    pod = tmp_path_factory.mktemp("pod")
    (pod / "token").write_text("this pod's own\n")
    web.clear()
    return Builder(web, pod)


async def verdict(auth: Authenticator, presented: str, source: str = "", **more: Any) -> Any:
    """The principal, or the refusal."""
    query, headers = ("", [(source, presented)]) if source else (f"token={presented}", [])
    conn = HTTPConnection(websocket(query, headers=headers, **more))
    try:
        return (await auth.authenticate(conn)).principal
    except Denied as denied:
        assert presented not in denied.detail
        return denied


def test_each_recipe_is_tried_here_and_type_checked() -> None:
    """mypy and pyright read the files in tests/typing/providers, which are these blocks."""
    elsewhere = {"keycloak_3", "aws_application_load_balancer", "auth_js"}
    assert RECIPES.keys() == PROVIDERS.keys() | elsewhere
    files = {path.stem: path for path in (ROOT / "tests/typing/providers").glob("[a-z]*.py")}
    assert files.keys() == RECIPES.keys()
    for name, code in RECIPES.items():
        assert files[name].read_text() == code, name


@cases("name", PROVIDERS)
async def test_a_providers_access_token_is_admitted_and_no_other(name: str, built: Builder) -> None:
    auth, provider = built(name), PROVIDERS[name]
    principal = await verdict(auth, provider.signed(), provider.source)
    assert isinstance(principal, Principal), principal.detail
    assert (principal.identity, principal.scopes) == (provider.identity, provider.scopes)
    assert principal.issuer == provider.access.get("iss")
    kinds = {"refresh", "ID", "logout", "another app's", "another tenant's"}
    assert provider.others.keys() >= kinds
    for kind, other in provider.others.items():
        refused = await verdict(auth, other.token, provider.source)
        assert isinstance(refused, Denied), kind
        assert (refused.reason, kind, refused.detail.find(other.why) >= 0) == (
            INVALID,
            kind,
            True,
        ), refused.detail


@pytest.mark.slow
@cases("name", PROVIDERS)
async def test_whatever_else_it_says_it_must_be_a_login_that_is_good_now(
    name: str, built: Builder
) -> None:
    auth, provider = built(name), PROVIDERS[name]
    others = {RSA_KEY: RSA_OTHER, P256_KEY: P256_OTHER, SECRET: SECRET[::-1]}
    forged = provider._replace(key=others[provider.key])
    for other, reason in (
        (provider.signed(exp=now() - 60), EXPIRED),
        (provider.signed(exp=None), INVALID),
        (provider.signed(nbf=now() + 60), INVALID),
        (provider.signed(events=BACK_CHANNEL), INVALID),
        (provider.signed({"typ": "logout+jwt"}), INVALID),
        (provider.signed({"typ": "secevent+jwt"}), INVALID),
        (forged.signed(), INVALID),
    ):
        assert (await verdict(auth, other, provider.source)).reason is reason


# Where it is a little different


async def test_google_writes_its_issuer_in_two_ways(built: Builder) -> None:
    provider = PROVIDERS["google_sign_in"]
    principal = await verdict(built("google_sign_in"), provider.signed(iss="accounts.google.com"))
    assert (principal.identity, principal.issuer) == (provider.identity, "accounts.google.com")


async def test_simplejwt_writes_a_users_id_as_a_number_or_as_text(built: Builder) -> None:
    provider = PROVIDERS["django_rest_framework_simplejwt"]
    auth = built("django_rest_framework_simplejwt")
    assert (await verdict(auth, provider.signed(user_id="7"))).identity == "7"
    assert (await verdict(auth, provider.signed(user_id=True))).reason is INVALID


async def test_a_revoked_user_of_fastapi_users_comes_back_within_the_hour(built: Builder) -> None:
    """His tokens don't say when they were issued."""
    name = "fastapi_users_and_fastapi_s_tutorial"
    auth, provider = built(name), PROVIDERS[name]
    await auth.revocations.revoke_user(provider.identity)
    assert (await verdict(auth, provider.signed(exp=now() + 3000))).reason is Reason.REVOKED
    newer = provider.signed(exp=now() + 3660)
    assert (await verdict(auth, newer)).identity == provider.identity


async def test_kubernetes_is_asked_with_the_pods_own_token_as_it_is_then(
    built: Builder, web: Issuer
) -> None:
    name = "kubernetes_service_accounts"
    auth = built(name)
    (built.pod / "token").write_text("the pod's next one\n")
    assert isinstance(await verdict(auth, PROVIDERS[name].signed()), Principal)
    asked = [r.headers["authorization"] for r in web.requests if "openid" in r.path]
    assert asked == ["Bearer the pod's next one"]


async def test_keycloaks_lightweight_tokens_are_asked_about(built: Builder, web: Issuer) -> None:
    auth = built("keycloak_3")
    lightweight = token({"iss": REALM, "azp": "web", "typ": "Bearer", "jti": "trrtac:1"})
    url = f"{REALM}/protocol/openid-connect/token/introspect"
    full = {**PROVIDERS["keycloak"].access, "active": True, "exp": now() + 60, "iat": now()}
    for more, outcome in (
        ({}, "f:alice"),
        ({"active": False}, "it is not active"),
        ({"typ": "Refresh"}, "its typ is 'Refresh'"),
        ({"typ": "ID"}, "its typ is 'ID'"),
        ({"azp": "shop"}, "its azp is 'shop'"),
        ({"iss": f"{REALM}2"}, "its iss is"),
        ({"sub": None}, "it has no sub"),
        ({"events": BACK_CHANNEL}, "Security Event Token"),
    ):
        web.pages[url] = {**full, **more}
        result = await verdict(built("keycloak_3") if more else auth, lightweight)
        told = result.identity if isinstance(result, Principal) else result.detail
        assert told.startswith(outcome) or outcome in told
    assert (await verdict(auth, lightweight)).scopes == (
        "openid",
        "email",
        "offline_access",
        "user",
    )


# A verifier of one's own

BALANCERS_KEYS = "https://public-keys.auth.elb.eu-central-1.amazonaws.com"
BALANCER = {
    "signer": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/chat/"
    "50dc6c49",
    "client": "2web5client",
    "iss": "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_AbCdEfGhI",
}
ALB = "x-amzn-oidc-data"


def padded(claims: dict[str, Any], key: Any = P256_KEY, **header: Any) -> str:
    """As a load balancer writes it: base64url with padding, which is signed, too."""
    header = {"typ": "JWT", "kid": KID, "alg": "ES256", **BALANCER, "exp": now() + 120, **header}
    parts = [
        urlsafe_b64encode(json.dumps(part).encode()).decode()
        for part in (header, {"sub": "alice", "email": "alice@acme.example", **claims})
    ]
    signed = ".".join(parts)
    signature = jwt.get_algorithm_by_name("ES256").sign(signed.encode(), key)
    return f"{signed}.{urlsafe_b64encode(signature).decode()}"


# The load balancer's segments are padded, and PyJWT 2.15.0 reads no padding.
reads_padding = pytest.mark.skipif(
    jwt.__version__ == "2.15.0", reason="pip install 'pyjwt>=2.15.1', which reads padding"
)


@reads_padding
@cases(
    ("claims", "header", "reason"),
    [
        ({}, {"signer": BALANCER["signer"].replace("chat", "evil")}, INVALID),
        ({}, {"signer": None}, INVALID),
        ({}, {"client": "9shop"}, INVALID),
        ({}, {"exp": now() - 1}, EXPIRED),
        ({"exp": now() - 1}, {}, EXPIRED),
        ({}, {"exp": None}, INVALID),
        ({}, {"exp": "never"}, INVALID),
        ({"sub": None}, {}, INVALID),
        ({"sub": ""}, {}, INVALID),
        ({}, {"kid": "../../../evil"}, INVALID),
        ({}, {"kid": None}, INVALID),
        ({}, {"kid": KID.replace("0", "1")}, INVALID),
        ({}, {"key": P256_OTHER}, INVALID),
        ({}, {"alg": "none"}, INVALID),
    ],
)
async def test_of_a_load_balancers_assertions_only_its_own_and_good_ones(
    claims: Any, header: Any, reason: Reason, built: Builder
) -> None:
    auth = built("aws_application_load_balancer")
    refused = await verdict(auth, padded(claims, **header), ALB)
    assert refused.reason is reason


@reads_padding
async def test_a_load_balancers_user_is_admitted(built: Builder, web: Issuer) -> None:
    auth = built("aws_application_load_balancer")
    for _ in range(2):
        principal = await verdict(auth, padded({}), ALB)
        assert isinstance(principal, Principal), principal.detail
        assert (principal.identity, principal.issuer) == ("alice", BALANCER["iss"])
    assert [request.path for request in web.requests if "elb" in request.path] == [
        f"{BALANCERS_KEYS}/{KID}"
    ]
    cognito = PROVIDERS["amazon_cognito"]
    theirs = [cognito.signed(), *(other.token for other in cognito.others.values())]
    for other in ("alice", padded({}).replace("=", ""), *theirs):
        assert (await verdict(auth, other, ALB)).reason is INVALID
    for broken in ("fail", "hang_up"):
        auth = built("aws_application_load_balancer")
        web.behaviour["*"] = broken
        assert (await verdict(auth, padded({}), ALB)).reason is Reason.KEYS_UNAVAILABLE


COOKIE = "__Secure-authjs.session-token"
ORIGIN = ("origin", "https://chat.acme.example")


def encrypted(claims: dict[str, Any], *, secret: str = SECRET, name: str = COOKIE) -> str:
    """As Auth.js writes it."""
    info = f"Auth.js Generated Encryption Key ({name})"
    key = HKDF(SHA256(), 64, name.encode(), info.encode()).derive(secret.encode())
    claims = {"sub": "cm1alice", "iat": now(), "exp": now() + 3600, "jti": "a1", **claims}
    header = {"alg": "dir", "enc": "A256CBC-HS512", "kid": "thumbprint"}
    made: str = jwe.encrypt_compact(header, json.dumps(claims), OctKey.import_key(key))
    return made


async def test_a_session_of_auth_js_may_come_in_pieces(built: Builder) -> None:
    auth = built("auth_js")
    for claims, size in (({}, 9999), ({"picture": "x" * 6000}, 3936)):
        value = encrypted(claims)
        pieces = [value[at : at + size] for at in range(0, len(value), size)]
        names = [f"{COOKIE}.{n}" for n in range(len(pieces))] if len(pieces) > 1 else [COOKIE]
        cookies = "; ".join(f"{n}={p}" for n, p in zip(names, pieces, strict=True))
        scope = websocket(headers=[ORIGIN, ("cookie", f"theme=dark; {cookies}")])
        app = App()
        await drive(WebSocketAuthMiddleware(app, auth), scope)
        user = app.scope["user"]
        assert (user.identity, user.method) == ("cm1alice", "auth_js")
        for seen in (scope, app.scope):
            assert (b"cookie", b"theme=dark") in seen["headers"]
            assert "session-token" not in str(seen)
        record = logging.makeLogRecord({"msg": f"cookie: {cookies}; a=b"})
        RedactCredentials(auth).filter(record)
        assert "session-token" in record.getMessage()
        assert not any(piece in record.getMessage() for piece in pieces)
        foreign = [("origin", "https://evil.example"), ("cookie", cookies)]
        for headers in (foreign, [("cookie", cookies)]):
            with pytest.raises(Denied) as caught:
                await auth.authenticate(HTTPConnection(websocket(headers=headers)))
            assert caught.value.reason is Reason.ORIGIN


@cases(
    ("value", "reason"),
    [
        (encrypted({"exp": now() - 1}), EXPIRED),
        (encrypted({"exp": None}), INVALID),
        (encrypted({"sub": None}), INVALID),
        (encrypted({"sub": ""}), INVALID),
        (encrypted({"sub": 7}), INVALID),
        (encrypted({}, secret=SECRET[::-1]), INVALID),  # another site's
        (encrypted({}, name="authjs.csrf-token"), INVALID),  # another cookie's, of the same site
        (encrypted({})[:-2], INVALID),
        (PROVIDERS["auth0"].signed(), INVALID),  # and what else the provider behind it issues
        *[(other.token, INVALID) for other in PROVIDERS["auth0"].others.values()],
        ("a.b.c.d.e", INVALID),
    ],
)
async def test_what_is_no_session_of_auth_js(value: str, reason: Reason, built: Builder) -> None:
    headers = [ORIGIN, ("cookie", f"{COOKIE}={value}")]
    with pytest.raises(Denied) as caught:
        await built("auth_js").authenticate(HTTPConnection(websocket(headers=headers)))
    assert caught.value.reason is reason
