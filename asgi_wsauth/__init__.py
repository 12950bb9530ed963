"""Authentication for WebSockets, as ASGI middleware.

    from asgi_wsauth import Authenticator, JWTVerifier, WebSocketAuthMiddleware

    auth = Authenticator([JWTVerifier(SECRET, algorithms=["HS256"], audience="chat")])
    app = WebSocketAuthMiddleware(app, auth)

The rooms, each of which imports only from rows above its own:

    0  options       ConfigurationError, every check of an option
       addresses     the peer's address, as servers and proxies write it
       tasks         about event loops, what anyio has no words for
       places        a number of places, of which every address gets its share
       valve         how much a server reads of what a client sends that was told to go
    1  denial        Reason, Denied, the one table of codes and statuses
       credential    Credential, Principal
       telling       how a refusal is told: by a close code, or by HTTP
       waiting       those who were accepted and have said nothing yet
    2  sources       QueryParam, Header, Cookie, ...: where a credential travels
       origins       Origin
       paths         path patterns
       scrub         known credentials cut out of a text
       events        events, observers, the log
       stores        where tickets, revocations and slots are kept: MemoryStore
       keys          what signatures are checked with
       claims        what a token's claims prove
       verdicts      VerdictCache
       outbound      requests to other servers
    3  verifiers/    one file per kind of credential, and JWKS: keys from the network
       closing       a close that reaches its client
       refusals      how many refused clients there may be that are not gone yet
       answers       the messages that tell a client no
       handshake     the messages of one handshake
       timers        calls at a given time
       refreshing    the messages by which a client brings a new credential on its open socket
       listener      hears what a store tells of
       revocation    Revocations
       throttle      FailureThrottle
       limits        ConnectionLimit
    4  authenticator the policy, in one function
    5  session       one live socket: Session, and what may end it
       redaction     RedactCredentials, a filter for logs
       passing       what passes a guard because it is of the other protocol
       testing       for users' own tests: as_principal, make_jwt
    6  admission     what both middlewares do with a connection
    7  middleware    WebSocketAuthMiddleware
       http          HTTPAuthMiddleware, TicketEndpoint
    8  redis         RedisStore
       contrib/      observers: Prometheus, OpenTelemetry
       cli/          the command line, which __main__ runs: one file each for the ways to knock at
                     an endpoint, for knocking, for what is wrong with what was seen, and for
                     showing it

Nothing imports the last row, which needs extras.

To add a kind of credential, write a verifier; to change what a client is told, see denial.py.
"""

from asgi_wsauth.authenticator import Authentication, Authenticator
from asgi_wsauth.credential import Credential, Principal
from asgi_wsauth.denial import DAPHNE_CLOSE_CODES, Denied, Reason
from asgi_wsauth.events import (
    Abandoned,
    Admitted,
    Closed,
    Event,
    KeysFetched,
    Observer,
    Refreshed,
    Refused,
    TicketIssued,
    log_event,
)
from asgi_wsauth.http import HTTPAuthMiddleware, TicketEndpoint
from asgi_wsauth.limits import ConnectionLimit, Overflow
from asgi_wsauth.middleware import WebSocketAuthMiddleware
from asgi_wsauth.options import ConfigurationError
from asgi_wsauth.redaction import RedactCredentials
from asgi_wsauth.revocation import Revocations
from asgi_wsauth.session import Session, SocketClosed
from asgi_wsauth.sources import Cookie, FirstMessage, Header, QueryParam, Source, Subprotocol
from asgi_wsauth.stores import (
    MemoryStore,
    Notice,
    RevocationStore,
    Slot,
    SlotStore,
    Subject,
    TakenSlot,
    TicketMemory,
    TicketStore,
)
from asgi_wsauth.telling import Rejection
from asgi_wsauth.throttle import FailureThrottle
from asgi_wsauth.verdicts import VerdictCache
from asgi_wsauth.verifiers import Verifier
from asgi_wsauth.verifiers.api_key import APIKeyVerifier
from asgi_wsauth.verifiers.internal import InternalCredential
from asgi_wsauth.verifiers.introspection import TokenIntrospection
from asgi_wsauth.verifiers.jwks import JWKS
from asgi_wsauth.verifiers.jwt import JWTVerifier
from asgi_wsauth.verifiers.tickets import Tickets

__version__ = "0.1.0"

__all__ = [
    "DAPHNE_CLOSE_CODES",
    "JWKS",
    "APIKeyVerifier",
    "Abandoned",
    "Admitted",
    "Authentication",
    "Authenticator",
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
    "Header",
    "InternalCredential",
    "JWTVerifier",
    "KeysFetched",
    "MemoryStore",
    "Notice",
    "Observer",
    "Overflow",
    "Principal",
    "QueryParam",
    "Reason",
    "RedactCredentials",
    "Refreshed",
    "Refused",
    "Rejection",
    "RevocationStore",
    "Revocations",
    "Session",
    "Slot",
    "SlotStore",
    "SocketClosed",
    "Source",
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
    "log_event",
]
