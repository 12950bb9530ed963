"""A login and its user, who is in a dict: by the JWT strategy and the user manager of
fastapi-users, and by ours around the same FastAPI app. Both decode with an audience, and look at
whether the user is active."""

# No postponed annotations: FastAPI could not look up in them what is local.

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, FastAPI, WebSocket, WebSocketException
from fastapi_users import BaseUserManager, UUIDIDMixin
from fastapi_users.authentication import JWTStrategy
from fastapi_users.db import BaseUserDatabase
from handshakes import SECRET, mint, now

from asgi_wsauth import Authenticator, JWTVerifier, Principal, WebSocketAuthMiddleware

THEIRS = "a FastAPI dependency of fastapi-users, with a user"
OURS = "ours around FastAPI, with load_user"
BASELINES = {OURS: THEIRS}

_AUDIENCE = "fastapi-users:auth"


@dataclass
class User:
    """As much as fastapi-users asks of one."""

    id: UUID
    email: str
    hashed_password: str = ""
    is_active: bool = True
    is_superuser: bool = False
    is_verified: bool = True


_ALICE = UUID("0b6f1a52-5a0c-4c7e-9a59-3d7c9f1d2b11")
_USERS = {_ALICE: User(_ALICE, "alice@chat.example")}


def token(key: Any, algorithm: str) -> str:
    """A token of a user, as `JWTStrategy.write_token` makes it."""
    claims = {"sub": str(_ALICE), "aud": [_AUDIENCE], "exp": now() + 3600}
    return mint(key, algorithm=algorithm, **claims)


def candidates(key: Any, own: Any, algorithm: str) -> dict[str, Any]:
    """The two apps.

    Args:
        key: what PyJWT verifies with.
        own: the same, as `JWTVerifier` takes it.
    """
    verifier = JWTVerifier(own, algorithms=[algorithm], audience=_AUDIENCE)
    auth = Authenticator([verifier], load_user=_load_user)
    return {
        THEIRS: _app(_current_user(key, algorithm)),
        OURS: WebSocketAuthMiddleware(_app(_of_the_scope), auth),
    }


def _app(current_user: Any) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket, user: Annotated[Any, Depends(current_user)]) -> None:
        assert isinstance(user, User)
        await websocket.accept()

    return app


# Ours


async def _load_user(principal: Principal, conn: Any) -> User | None:
    user = _USERS.get(UUID(principal.identity))
    return user if user is not None and user.is_active else None


async def _of_the_scope(websocket: WebSocket) -> Any:
    return websocket.user


# Theirs


class _Database(BaseUserDatabase[User, UUID]):
    async def get(self, id: UUID) -> User | None:
        return _USERS.get(id)


class _Manager(UUIDIDMixin, BaseUserManager[User, UUID]):
    reset_password_token_secret = SECRET
    verification_token_secret = SECRET


_database = _Database()


async def _user_manager() -> AsyncIterator[_Manager]:
    yield _Manager(_database)


def _current_user(key: Any, algorithm: str) -> Any:
    """A dependency that takes the token of the query, as a browser sends it: fastapi-users itself
    has transports for headers and cookies."""

    def strategy() -> JWTStrategy[User, UUID]:
        return JWTStrategy(SECRET, 3600, algorithm=algorithm, public_key=key)

    async def current_user(
        websocket: WebSocket, manager: Annotated[_Manager, Depends(_user_manager)]
    ) -> User:
        user = await strategy().read_token(websocket.query_params.get("token"), manager)
        if user is None or not user.is_active:
            raise WebSocketException(1008, "token_invalid")
        return user

    return current_user
