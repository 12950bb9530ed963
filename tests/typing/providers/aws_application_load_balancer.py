import re
import time
from typing import Any

import httpx2
import jwt
from starlette.requests import HTTPConnection

from asgi_wsauth import Authenticator, Credential, Denied, Header, Principal, Reason

BALANCER = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:loadbalancer/app/chat/50dc6c49"
CLIENT = "2web5client"
KEYS = "https://public-keys.auth.elb.eu-central-1.amazonaws.com"

known_keys: dict[str, str] = {}


async def key_of(kid: str) -> str:
    if kid not in known_keys:
        try:
            async with httpx2.AsyncClient(timeout=3) as client:
                answer = await client.get(f"{KEYS}/{kid}")
        except httpx2.HTTPError:
            raise Denied(
                Reason.KEYS_UNAVAILABLE, "no answer from the load balancer's keys"
            ) from None
        if answer.status_code >= 500:
            raise Denied(Reason.KEYS_UNAVAILABLE, f"HTTP {answer.status_code} for its key")
        if answer.status_code != 200:
            raise Denied(Reason.INVALID, "no key has its kid")
        if len(known_keys) > 20:
            known_keys.clear()
        known_keys[kid] = answer.text
    return known_keys[kid]


async def load_balancer(credential: Credential, conn: HTTPConnection) -> Principal | None:
    try:
        header = jwt.get_unverified_header(credential.value)
    except jwt.PyJWTError:
        return None
    kid = header.get("kid")
    if not isinstance(kid, str) or not re.fullmatch(r"[0-9a-f-]{36}", kid):
        raise Denied(Reason.INVALID, "its kid is none of the load balancer's")
    if (header.get("signer"), header.get("client")) != (BALANCER, CLIENT):
        raise Denied(Reason.INVALID, "another load balancer signed it, or for another client")
    try:
        claims: dict[str, Any] = jwt.decode(
            credential.value, await key_of(kid), algorithms=["ES256"], options={"require": ["sub"]}
        )
    except jwt.ExpiredSignatureError:
        raise Denied(Reason.EXPIRED) from None
    except (jwt.PyJWTError, ValueError) as exc:
        raise Denied(Reason.INVALID, str(exc)) from None
    expires_at = header.get("exp")
    if type(expires_at) is not int or not claims["sub"]:
        raise Denied(Reason.INVALID, "it has no exp, or an empty sub")
    if expires_at <= time.time():
        raise Denied(Reason.EXPIRED)
    return Principal(
        claims["sub"],
        issuer=header.get("iss"),
        claims=claims,
        expires_at=expires_at,
        method="load_balancer",
    )


auth = Authenticator([load_balancer], sources=[Header("x-amzn-oidc-data")])
