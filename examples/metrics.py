"""A chat with metrics: `/metrics` for Prometheus, beside the sockets.

    pip install -e '.[demo,prometheus]'
    python examples/metrics.py

It prints an address with a token in it that is valid for five minutes, and where the metrics are.
Point Prometheus at them, and import `asgi_wsauth/contrib/grafana.json` into Grafana. The port is
8000, or what the environment variable PORT says; SECRET can be set too.

With several worker processes, set PROMETHEUS_MULTIPROC_DIR to an empty directory; `/metrics` then
adds up what all of them counted.
"""

import os
import secrets

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware, log_event
from asgi_wsauth.contrib.prometheus import PrometheusMetrics
from asgi_wsauth.testing import make_jwt

SECRET = os.environ.get("SECRET") or secrets.token_urlsafe(32)


async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{websocket.user.display_name}: {text}")


registry = REGISTRY
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]


# Anyone who can reach it can read it. It names no user, but don't expose it to the internet.
async def metrics(request: Request) -> Response:
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})


auth = Authenticator(
    [JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")],
    observers=[log_event, PrometheusMetrics()],
)
routes = [WebSocketRoute("/chat", chat), Route("/metrics", metrics)]
app = WebSocketAuthMiddleware(Starlette(routes=routes), auth, allow_unguarded_http=True)

if __name__ == "__main__":
    port = int(os.environ.get("PORT", "8000"))
    token = make_jwt(SECRET, "alice", aud="chat")
    print(f"ws://127.0.0.1:{port}/chat?token={token}")
    print(f"http://127.0.0.1:{port}/metrics", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=port)
