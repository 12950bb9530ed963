"""Credentials of all kinds, good ones and others."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Sequence
from itertools import count
from json import dumps
from random import Random
from secrets import token_urlsafe
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from issuer import Issuer
from logouts import LOGOUT

from . import terms

_DAY = 86400.0
_RSA = 300  # tokens that are signed ahead, because signing takes long
_KEPT = 5000  # used tickets, and revoked tokens, to be tried again


class Token(NamedTuple):
    """A credential, and what is in it."""

    value: str
    user: str
    token_id: str = ""
    session_id: str = ""
    expires_at: float = 0.0  # from when on it is not accepted: `exp` and the leeway


class Mint:
    """Issues tokens.

    Args:
        issuer: publishes keys.
        random: decides.

    Attributes:
        revoked: tokens that were revoked for sure.
        spent: tickets that were used for sure.
        withdrawn: tokens whose key is gone, and from when on no outage of the issuer could excuse
            that one is admitted (`time.monotonic`).
    """

    def __init__(self, issuer: Issuer, random: Random) -> None:
        self.revoked: deque[str] = deque(maxlen=_KEPT)
        self.spent: deque[str] = deque(maxlen=_KEPT)
        self.withdrawn: deque[tuple[Token, float]] = deque(maxlen=100)
        self._issuer = issuer
        self._random = random
        self._numbers = count(1)
        self._foreign_rsa = rsa.generate_private_key(65537, 2048)
        self._foreign_ec = ec.generate_private_key(ec.SECP256R1())
        issuer.add_key("rsa", rsa.generate_private_key(65537, 2048))
        self._kid = ""
        self.turn_keys()
        self._ahead = deque(self._keyed("rsa", self.user(), _DAY) for _ in range(_RSA))

    def user(self) -> str:
        """One who never was here."""
        return f"user{next(self._numbers)}"

    # Good ones

    def login(self, user: str = "", lasts: float = _DAY) -> Token:
        """A token of the login, with HS256."""
        user = user or self.user()
        claims = self._claims(user, lasts, terms.LOGIN)
        return self._token(jwt.encode(claims, terms.SECRET, "HS256"), claims)

    def keyed(self, lasts: float = _DAY) -> Token:
        """A token of the issuer with keys, ES256 or RS256."""
        if self._random.random() < 0.5:
            return self._keyed(self._kid, self.user(), lasts)
        self._ahead.rotate()
        return self._ahead[0]

    def own(self, user: str = "") -> Token:
        """A token of the issuer with keys that nobody else is given, of a key that stays."""
        return self._keyed("rsa", user or self.user(), _DAY)

    def logout(self, token: Token) -> str:
        """What the issuer says when this user logs out: of all that he has, or of the session."""
        claims = self._claims(token.user, _DAY, self._issuer.url)
        claims |= {"aud": terms.CLIENT, "sid": token.session_id, "events": {LOGOUT: {}}}
        if self._random.random() < 0.5:
            del claims["sid"]
        return self._signed(claims, self._issuer.keys["rsa"], "rsa")

    def any(self) -> Token:
        """A token that lasts, of either issuer."""
        return self.login() if self._random.random() < 0.5 else self.keyed()

    def _keyed(self, kid: str, user: str, lasts: float) -> Token:
        claims = self._claims(user, lasts, self._issuer.url)
        return self._token(self._signed(claims, self._issuer.keys[kid], kid), claims)

    def _claims(self, user: str, lasts: float, issuer: str) -> dict[str, Any]:
        number = next(self._numbers)
        now = time.time()
        names = {"jti": f"token{number}", "sid": f"session{number}"}
        return {"iss": issuer, "sub": user, "iat": now, "exp": now + lasts, **names}

    def _token(self, value: str, claims: dict[str, Any]) -> Token:
        user, token_id, session_id = (claims[name] for name in ("sub", "jti", "sid"))
        return Token(value, user, token_id, session_id, claims["exp"] + terms.LEEWAY)

    def _signed(self, claims: dict[str, Any], key: Any, kid: str) -> str:
        algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(claims, key, algorithm, headers={"kid": kid})

    # Keys

    def next_key(self) -> str:
        """Publish a key. Nothing is signed with it yet: see `JWKS(cooldown=)`."""
        kid = f"key{next(self._numbers)}"
        self._issuer.add_key(kid)
        return kid

    def turn_keys(self, kid: str = "") -> str:
        """Sign with this key from now on; the one before."""
        self._kid, before = kid or self.next_key(), self._kid
        return before

    def withdraw(self, kid: str) -> None:
        """Publish a key no longer."""
        token = self._keyed(kid, self.user(), _DAY)
        self._issuer.keys = {k: key for k, key in self._issuer.keys.items() if k != kid}
        known = terms.KEYS_TTL + terms.KEYS_STALE_FOR + 5
        self.withdrawn.append((token, time.monotonic() + known))

    # Others

    def expired(self) -> str:
        return self.login(lasts=-terms.LEEWAY - self._random.uniform(0.01, 1000)).value

    def rubbish(self) -> str:
        return self._random.choice(
            [token_urlsafe(self._random.randrange(1, 200)), "a.b.c", "e30.."]
        )

    def foreign(self) -> str:
        """Signed by somebody else, in the name of either issuer."""
        claims = self._claims(self.user(), _DAY, self._issuer.url)
        if (way := self._random.randrange(3)) == 0:
            return self._signed(claims, self._foreign_ec, self._kid)
        if way == 1:
            return self._signed(claims, self._foreign_rsa, "rsa")
        claims["iss"] = terms.LOGIN
        return jwt.encode(claims, terms.SECRET[::-1], "HS256")

    def of_unknown_key(self) -> str:
        claims = self._claims(self.user(), _DAY, self._issuer.url)
        return self._signed(claims, self._foreign_ec, f"key{next(self._numbers)}")

    def unsigned(self) -> str:
        """`alg: none`, in some spelling."""
        issuer = self._random.choice([terms.LOGIN, self._issuer.url])
        header = {"alg": self._random.choice(["none", "None", "NONE"]), "typ": "JWT"}
        parts = [header, self._claims(self.user(), _DAY, issuer)]
        encoded = [urlsafe_b64encode(dumps(p).encode()).decode().rstrip("=") for p in parts]
        return ".".join([*encoded, self._random.choice(["", "c2ln"])])

    def confused(self) -> str:
        """HS256 in the name of the issuer that has public keys, or the other way round."""
        if self._random.random() < 0.5:
            claims = self._claims(self.user(), _DAY, self._issuer.url)
            return jwt.encode(claims, terms.SECRET, "HS256", headers={"kid": "rsa"})
        claims = self._claims(self.user(), _DAY, terms.LOGIN)
        return self._signed(claims, self._issuer.keys[self._kid], self._kid)

    def of_withdrawn_key(self) -> str:
        return self._one_of([t.value for t, at in self.withdrawn if at < time.monotonic()])

    def revoked_one(self) -> str:
        return self._one_of(self.revoked)

    def spent_one(self) -> str:
        return self._one_of(self.spent)

    def _one_of(self, values: Sequence[str]) -> str:
        return self._random.choice(values) if values else ""

    def unissued(self) -> str:
        """A ticket that nobody issued."""
        return "wst_" + token_urlsafe(32)
