"""The words of a language model, streamed to a page for as long as its user is logged in.

    pip install -e '.[demo]'
    python examples/model_stream.py

Open the address that it prints, and log in with the password beside it. A login lasts 10 seconds,
or what the environment variable LIFETIME says: the answer takes longer, so it stops in between, and
goes on where it stopped once you have logged in again. PORT, SECRET, PASSWORD and PACE (seconds
for a word) can be set too.

The model is made up: it knows one answer.
"""

import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import anyio
import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_wsauth import (
    Authenticator,
    Cookie,
    HTTPAuthMiddleware,
    JWTVerifier,
    MemoryStore,
    Revocations,
)

PORT = int(os.environ.get("PORT", "8000"))
ORIGIN = f"http://127.0.0.1:{PORT}"

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)
PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe(9)
COOKIE = "model_login"
LIFETIME = float(os.environ.get("LIFETIME", "10"))  # seconds for which a login lasts

ANSWER = (
    "A stream is one long response, and a response is judged when it is asked for. So without "
    "further ado it would go on for hours after its user has logged out. Here it ends with the "
    "login: the app is told that its client is gone, the browser that this is all there is. The "
    "browser asks for more at once, as it does whenever a stream ends, and is refused. That is how "
    "this page knows that you have to log in again, and you read on where you stopped."
).split()
PACE = float(os.environ.get("PACE", "0.2"))  # seconds for a word

revocations = Revocations(MemoryStore())
login = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="model", leeway=0)],
    sources=[Cookie(COOKIE)],
    allowed_origins=[ORIGIN],
    revocations=revocations,
)


async def words(start: int) -> AsyncIterator[str]:
    """The answer from one of its words on, as server-sent events, each with the number of the next
    word as its id."""
    yield "retry: 1000\n\n"  # milliseconds until the browser asks again
    for number in range(start, len(ANSWER)):
        await anyio.sleep(PACE)
        yield f"id: {number + 1}\ndata: {json.dumps(ANSWER[number])}\n\n"
    # The end of the stream alone wouldn't say that this is all: it could be that of the login.
    yield "event: done\ndata:\n\n"


async def answer(request: Request) -> Response:
    # A browser that asks again by itself says in a header where it stopped; a page that opens a new
    # stream can only say it in the address.
    stopped = request.headers.get("last-event-id") or request.query_params.get("after", "0")
    start = int(stopped) if stopped.isdecimal() else 0
    return StreamingResponse(
        words(start), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def page(request: Request) -> FileResponse:
    return FileResponse(Path(__file__).with_name("model_stream.html"))


async def log_in(request: Request) -> Response:
    # Otherwise any site could log its visitor in as somebody else.
    if request.headers.get("origin") != ORIGIN:
        return JSONResponse({"error": "origin_not_allowed"}, 403)
    form = parse_qs((await request.body()).decode(errors="replace"))
    password = form.get("password", [""])[0]
    if not secrets.compare_digest(password.encode(), PASSWORD.encode()):
        return JSONResponse({"error": "wrong_password"}, 403)
    claims = {"sub": "alice", "aud": "model", "sid": secrets.token_urlsafe(9)}
    token = jwt.encode({**claims, "exp": time.time() + LIFETIME}, SECRET, algorithm="HS256")
    response = JSONResponse({"name": "alice"})
    # No script can read it. Over HTTPS also secure=True, and "__Host-" before the name.
    response.set_cookie(COOKIE, token, httponly=True, samesite="lax")
    return response


async def log_out(request: Request) -> Response:
    await revocations.revoke_session(request.user.session_id)
    response = JSONResponse({})
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


async def me(request: Request) -> Response:
    return JSONResponse({"name": request.user.display_name})


app = Starlette(
    routes=[
        Route("/", page),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
        Route("/me", me),
        Route("/answer", answer),
    ],
    middleware=[Middleware(HTTPAuthMiddleware, authenticator=login, exclude=["/", "/login"])],
)

if __name__ == "__main__":
    print(f"Open {ORIGIN} and log in with the password {PASSWORD}", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=PORT)
