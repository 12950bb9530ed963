"""Socket.IO behind one login, over long-polling and over WebSocket.

    pip install -e '.[demo]' python-socketio
    python examples/socketio_app.py

It prints how a page connects, with a token that is valid for five minutes. The port is 8000, or
what the environment variable PORT says; SECRET can be set too.

What it shows:

- Socket.IO begins with HTTP requests and changes to a WebSocket, so both middlewares stand around
  it, and the client sends its token with each of these: in the query, or in a header. What a client
  calls `auth` comes after the handshake.
- A page is told of a refusal in `connect_error`, where `error.description` is 401. A socket that is
  accepted, and closed before Socket.IO has said a word, is no error to its client, which would wait
  for ever: hence `http_response`.
- When the token expires, `disconnect` is told: `details.context.code` is 4001. The client comes
  back by itself, with what is in `socket.io.opts.query` then.
"""

# Socket.IO comes without types.
# mypy: disable-error-code="import-untyped,untyped-decorator"

import os
import secrets
from typing import Any

import socketio
import uvicorn

from asgi_wsauth import Authenticator, HTTPAuthMiddleware, JWTVerifier, WebSocketAuthMiddleware
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)

sio = socketio.AsyncServer(async_mode="asgi")


@sio.event
async def connect(sid: str, environ: dict[str, Any], payload: object) -> None:
    user = environ["asgi.scope"]["user"]
    await sio.save_session(sid, {"name": user.display_name})
    await sio.emit("hello", user.display_name, to=sid)


@sio.event
async def say(sid: str, text: str) -> str:
    session = await sio.get_session(sid)
    return f"{session['name']}: {text}"


@sio.event
async def disconnect(sid: str, reason: str) -> None:
    session = await sio.get_session(sid)
    print(f"{session['name']} left: {reason}", flush=True)


auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])
app = HTTPAuthMiddleware(
    WebSocketAuthMiddleware(socketio.ASGIApp(sio), auth, rejection="http_response"), auth
)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f'io("http://127.0.0.1:{port}", {{ query: {{ token: "{token}" }} }})', flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
