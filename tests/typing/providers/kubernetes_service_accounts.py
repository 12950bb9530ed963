from pathlib import Path

from asgi_wsauth import JWKS, Authenticator, JWTVerifier

OWN_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")

cluster = JWTVerifier(
    JWKS(
        "https://kubernetes.default.svc/openid/v1/jwks",
        headers={"authorization": lambda: f"Bearer {OWN_TOKEN.read_text().strip()}"},
    ),
    algorithms=["RS256"],
    issuer="https://kubernetes.default.svc.cluster.local",
    audience="chat",
    claims={("kubernetes.io", "namespace"): {"web", "jobs"}},
)
auth = Authenticator([cluster])
