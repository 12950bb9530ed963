"""Authentication for WebSockets, as ASGI middleware.

    from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware

    auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])
    app = WebSocketAuthMiddleware(app, auth)

The package, from the bottom up; each module imports only from the rows above it in this list:

     0  options/       ConfigurationError, and every check of an option
     1  printable      text that can be logged and shown, whoever sent it
        denial         Reason, Denied: the one table of codes and statuses
        credential     Credential, Principal
        scope/         what a scope says: who asks, and for which path
     2  events         events, observers, the log
     3  loops/         event loops: tasks, timers, places
     4  sources/       where a credential travels, and its removal from the scope
        stores/        what is kept: tickets, revocations, slots, sessions; MemoryStore, Lua scripts
     5  verifiers/     who a credential vouches for: a file for each kind; claims, keys, JWKS
        policies/      what ends or limits logins
     6  authenticator  the decision, once, in order
     7  redaction      credentials out of logs and texts
        testing        for users' own tests: as_principal, make_jwt
     8  connection/    one connection, from its scope to its last message
     9  middleware     WebSocketAuthMiddleware
        http           HTTPAuthMiddleware
        endpoints/     the ASGI apps to mount: TicketEndpoint, LogoutEndpoint, SessionsEndpoint
        access         what an app asks: current_session, current_principal
    10  redis          RedisStore
        shutdown       drain_on_signal
        contrib/       observers (Prometheus, OpenTelemetry), and existing logins
        cli/           the command line
    11  __main__       runs the command line

To add a kind of credential, write a verifier. Codes and statuses are in denial.py.
"""

from asgi_wsauth.access import current_principal, current_session
from asgi_wsauth.authenticator import Authentication, Authenticator
from asgi_wsauth.connection.closing import SocketClosed, StreamClosed
from asgi_wsauth.connection.rejection import Rejection
from asgi_wsauth.connection.session import Session
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, GRAPHQL_CLOSE_CODES, Denied, Reason
from asgi_wsauth.endpoints import LogoutEndpoint, SessionsEndpoint, TicketEndpoint
from asgi_wsauth.events import (
    Abandoned,
    Admitted,
    Closed,
    Event,
    KeysFetched,
    LoggedOut,
    Observer,
    Refreshed,
    Refused,
    SessionsEnded,
    TicketIssued,
    log_event,
)
from asgi_wsauth.http import HTTPAuthMiddleware
from asgi_wsauth.middleware import WebSocketAuthMiddleware
from asgi_wsauth.options import ConfigurationError
from asgi_wsauth.policies.entries import SessionEntry
from asgi_wsauth.policies.handshake_limit import HandshakeLimit
from asgi_wsauth.policies.limits import ConnectionLimit, Overflow
from asgi_wsauth.policies.revocation import Revocations
from asgi_wsauth.policies.sessions import Sessions
from asgi_wsauth.policies.throttle import FailureThrottle
from asgi_wsauth.redaction import RedactCredentials
from asgi_wsauth.shutdown import drain_on_signal
from asgi_wsauth.sources import Cookie, FirstMessage, Header, QueryParam, Source, Subprotocol
from asgi_wsauth.stores.memory import MemoryStore
from asgi_wsauth.stores.protocols import (
    BlockStore,
    Notice,
    RenewalNotice,
    RenewedSessions,
    RevocationStore,
    SessionKey,
    SessionStore,
    Slot,
    SlotStore,
    Subject,
    TakenSlot,
    TicketMemory,
    TicketStore,
)
from asgi_wsauth.verifiers import Verifier
from asgi_wsauth.verifiers.api_key import APIKeyVerifier
from asgi_wsauth.verifiers.internal import InternalCredential
from asgi_wsauth.verifiers.introspection import TokenIntrospection
from asgi_wsauth.verifiers.jwks import JWKS
from asgi_wsauth.verifiers.jwt import JWTVerifier
from asgi_wsauth.verifiers.proxy_header import ProxyHeader
from asgi_wsauth.verifiers.rechecking import Rechecks
from asgi_wsauth.verifiers.tickets import Tickets
from asgi_wsauth.verifiers.verdicts import VerdictCache

__version__ = "0.1.0"

__all__ = [
    "DAPHNE_CLOSE_CODES",
    "GRAPHQL_CLOSE_CODES",
    "JWKS",
    "APIKeyVerifier",
    "Abandoned",
    "Admitted",
    "Authentication",
    "Authenticator",
    "BlockStore",
    "Closed",
    "ConfigurationError",
    "ConnectionLimit",
    "Cookie",
    "Credential",
    "Denied",
    "Event",
    "FailureThrottle",
    "FirstMessage",
    "HTTPAuthMiddleware",
    "HandshakeLimit",
    "Header",
    "InternalCredential",
    "JWTVerifier",
    "KeysFetched",
    "LoggedOut",
    "LogoutEndpoint",
    "MemoryStore",
    "Notice",
    "Observer",
    "Overflow",
    "Principal",
    "ProxyHeader",
    "QueryParam",
    "Reason",
    "Rechecks",
    "RedactCredentials",
    "Refreshed",
    "Refused",
    "Rejection",
    "RenewalNotice",
    "RenewedSessions",
    "RevocationStore",
    "Revocations",
    "Session",
    "SessionEntry",
    "SessionKey",
    "SessionStore",
    "Sessions",
    "SessionsEnded",
    "SessionsEndpoint",
    "Slot",
    "SlotStore",
    "SocketClosed",
    "Source",
    "StreamClosed",
    "Subject",
    "Subprotocol",
    "TakenSlot",
    "TicketEndpoint",
    "TicketIssued",
    "TicketMemory",
    "TicketStore",
    "Tickets",
    "TokenIntrospection",
    "VerdictCache",
    "Verifier",
    "WebSocketAuthMiddleware",
    "current_principal",
    "current_session",
    "drain_on_signal",
    "log_event",
]
