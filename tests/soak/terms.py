"""What the workers and their clients agree on. Times are short, so that much happens."""

SECRET = "Zk7Qm2VxT9sLd4RbJw8NcHf3Gy6PaEu1KoXi5TzB"
CLIENT = "soak"  # whom the issuer tells of logouts
LOGIN = "https://login.soak.test"  # issues HS256 tokens; the issuer with keys is a real server

LEEWAY = 1.0  # seconds, of both verifiers
GRACE = 1.0  # seconds that an app has to end
DRAIN_OVER = 1.0  # seconds in which a worker that is to end closes its sockets
LEASE = 5.0  # seconds, of slots in Redis

KEYS_TTL = 3.0  # seconds, see `JWKS`
KEYS_STALE_FOR = 2.0
KEYS_COOLDOWN = 0.5
KEYS_TIMEOUT = 1.5

ORIGIN = "https://soak.test"
REFRESH = "auth.refresh"
LIMIT = 3  # sockets that a user may have; on /newest, of which the newest stay
VERDICTS = 200  # that are cached

FAILURES = 8  # bad credentials from one address in FAILURES_WITHIN seconds, then it is locked out
FAILURES_WITHIN = 10
FIRST_MESSAGE_WITHIN = 2.0  # seconds, on /first

RECHECK = 4.0  # seconds, on /watched
MAX_AGE = 30.0  # seconds, on /watched
