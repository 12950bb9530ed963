// A WebSocket that reconnects, and follows asgi-wsauth's advice when it is refused or closed.
//
//     const socket = new AuthSocket("/ws", { ticket: ticketFrom("/ticket") });
//     socket.addEventListener("message", ({ data }) => show(data));
//     socket.addEventListener("login", () => showLogin().then(() => socket.connect()));
//
// Events: `open` { protocol }: a refused socket opens, too, and closes at once; only a message
// proves that it was admitted. `message` { data }. `waiting` { delay, code, reason }: closed, and
// reopened after `delay` ms. `login` { code, reason }: the user has to log in; call connect() then.
// `stop` { code, reason }: closed for good. Without a socket there is no code, and `error` is what
// the page's own function threw. Browsers print the URL of a failed handshake on the console, so
// the only credential in it is a ticket, which is useless half a minute later.

// What to do after a close; tests/support/browser_table.py makes it from asgi_wsauth/denial.py.
const ADVICE = new Map([
  ["token_missing", "stop"], ["token_malformed", "stop"], ["token_invalid", "stop"],
  ["token_expired", "refresh"], ["keys_unavailable", "refresh, with backoff"],
  ["token_revoked", "log in again"], ["forbidden", "stop"], ["origin_not_allowed", "stop"],
  ["too_many_failures", "retry later"], ["too_many_connections", "retry later"],
  ["verifier_unavailable", "retry later"], ["server_restarting", "retry later"],
  ["internal_error", "retry later"], [1001, "retry later"],
  [1006, "refresh once, then retry later"], [1008, "stop"], [1011, "retry later"],
  [1012, "retry later"], [1013, "retry later"], [3000, "stop"], [3003, "stop"], [4001, "refresh"],
  [4004, "log in again"], [4011, "retry later"], [4012, "retry later"], [4013, "retry later"],
]);
export { ADVICE };
export const advice = (code, reason) => ADVICE.get(reason) ?? ADVICE.get(code) ?? "stop";

const GAP = 3000; // ms between two fresh credentials, at least
const LONGEST = 3_600_000; // ms that a server may ask for

const DEFAULTS = {
  // One of these two: an async function of the page, called before each attempt. It returns the
  // credential, or null if the user has to log in. It gets { fresh, signal }: `fresh` is true if
  // the last credential can't be used again, `signal` aborts what takes too long. What it throws
  // may have a `reason`, a phrase of the table, and a `retryAfter`, seconds to wait at least.
  ticket: null, // for the URL, for Tickets and QueryParam
  token: null, // for a subprotocol, for Subprotocol
  param: "token", // the name of the ticket's query parameter
  protocols: [], // the app's own subprotocols
  refreshMessage: null, // as in WebSocketAuthMiddleware(refresh_message="auth.refresh")
  heartbeat: 0, // seconds after which a silent peer counts as dead; 0: never
  ping: null, // what to send that often, for your app to answer with anything
  base: 1000, // ms: bound of the first delay, doubled for each next one
  spread: 10_000, // ms: the same, where the server says "later", as it does to all clients at once
  cap: 30_000, // ms: the largest bound
  steady: 5000, // ms: a socket that was open this long resets the backoff
  timeout: 20_000, // ms for a credential, and for a handshake; what follows is for tests
  random: Math.random, now: () => performance.now(), setTimeout: (run, ms) => setTimeout(run, ms),
};

export class AuthSocket extends EventTarget {
  #url; #options;
  #socket = null;
  #life = new AbortController(); // until the page closes it
  #current = new AbortController(); // of this attempt, or wait; once aborted, results are ignored
  #delays = 0; // since a socket was last steady
  #followed = new Set(); // advice, since then
  #fresh = false; // whether the next credential must be a new one
  #asking = null; // the credential that the page is being asked for
  #asked = -Infinity; // when it was last asked for a fresh one
  #looks; // the timer that sees whether anything was heard

  constructor(url, options) {
    super();
    this.#options = { ...DEFAULTS, ...options };
    if (!this.#options.ticket === !this.#options.token) {
      throw new TypeError("AuthSocket needs one function, as `ticket` or as `token`");
    }
    this.#url = new URL(url, location.href);
    this.connect();
  }

  // Starts again, as after a login.
  connect() {
    this.close();
    [this.#delays, this.#followed, this.#fresh] = [0, new Set(), false];
    this.#try();
  }

  // Returns whether it was sent. Nothing is queued for the next socket, which is a new connection.
  send(data) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    return this.#socket.send(data) ?? true;
  }

  // Closes it for good, without an event.
  close(code = 1000, reason = "") {
    this.#socket?.close(code, reason);
    this.#life.abort();
    [this.#life, this.#asking] = [new AbortController(), null];
    this.#next();
  }

  #next() {
    clearInterval(this.#looks);
    this.#current.abort();
    this.#current = new AbortController();
    return this.#current.signal;
  }

  // What must not outlast `signal`, nor take too long.
  #limit(signal) {
    return AbortSignal.any([signal, AbortSignal.timeout(this.#options.timeout)]);
  }

  // Asks the page for one credential at a time. One that is on its way when the socket ends is for
  // the next socket: where logins are renewed by a token that works once, two requests end them.
  #credential(fresh) {
    if (this.#asking) return this.#asking;
    if (fresh) this.#asked = this.#options.now();
    const signal = this.#limit(this.#life.signal);
    const ask = async () => (this.#options.ticket ?? this.#options.token)({ fresh, signal });
    const late = new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason)));
    const asking = Promise.race([ask(), late]).finally(() => {
      if (this.#asking === asking) this.#asking = null;
    });
    this.#asking = asking;
    return asking;
  }

  async #try(asking) {
    const current = this.#next();
    try {
      const credential = await (asking ?? this.#credential(this.#fresh));
      if (current.aborted) return;
      this.#fresh = false;
      credential ? this.#open(credential, current) : this.#end("login");
    } catch (error) {
      const reason = error?.reason;
      if (!current.aborted) this.#follow(ADVICE.get(reason) ?? "retry later", { reason, error });
    }
  }

  #open(credential, current) {
    const { ticket, param, protocols, now, steady, heartbeat, ping } = this.#options;
    const url = new URL(this.#url);
    if (ticket) url.searchParams.set(param, credential);
    let socket, opened = Infinity, said = true; // anything, since the last look
    try {
      socket = new WebSocket(url, ticket ? protocols : ["bearer", credential, ...protocols]);
    } catch (error) {
      return this.#end("stop", { reason: error.name }); // its message contains the credential
    }
    this.#socket = socket;
    this.#limit(current).addEventListener("abort", () => {
      if (socket.readyState === WebSocket.CONNECTING) socket.close(); // which makes a 1006
    });
    const closed = ({ code, reason }) => {
      if (now() - opened >= steady) [this.#delays, this.#followed] = [0, new Set()];
      this.#follow(advice(code, reason), { code, reason });
    };
    const look = () => {
      if (!said) {
        socket.close();
        return closed({ code: 1006, reason: "" });
      }
      said = false;
      if (ping) socket.send(ping);
    };
    const on = (type, run) => socket.addEventListener(type, run, { signal: current });
    on("open", () => {
      opened = now();
      if (heartbeat) this.#looks = setInterval(look, heartbeat * 1000);
      this.#tell("open", { protocol: socket.protocol });
    });
    on("message", ({ data }) => {
      said = true;
      this.#took(data) || this.#tell("message", { data });
    });
    on("close", closed);
  }

  #follow(advice, told) {
    const first = !this.#followed.has(advice);
    this.#followed.add(advice);
    if (advice === "stop") return this.#end("stop", told);
    if (advice === "log in again") return this.#end("login", told);
    this.#fresh ||= advice.startsWith("refresh") && (first || !advice.includes("once"));
    const { base, spread, cap, random, now, setTimeout } = this.#options;
    // Full jitter: anything below a bound that doubles, so that not all clients come at once.
    const isLater = advice === "retry later" && told.code && told.reason !== "server_restarting";
    const bound = isLater ? spread : base; // a drained server spreads its clients by itself
    const wait = () => random() * Math.min(cap, bound * 2 ** this.#delays++);
    const soon = advice === "refresh" && first ? 0 : navigator.onLine ? wait() : cap;
    const asking = this.#fresh && !soon ? this.#asking : null;
    const least = this.#fresh && !asking ? Math.max(0, this.#asked + GAP - now()) : 0;
    const wanted = Math.min(LONGEST, told.error?.retryAfter * 1000 || 0);
    const delay = wanted + Math.max(soon, least);
    const signal = this.#end("waiting", { delay, ...told });
    const go = () => signal.aborted || this.#try(asking);
    const from = now() + wanted + least; // which even a network that returns doesn't cut short
    const online = () => (now() < from ? setTimeout(go, from - now()) : go());
    setTimeout(go, delay);
    addEventListener("online", online, { signal });
  }

  #end(type, told) {
    const signal = this.#next();
    this.#tell(type, told);
    return signal;
  }
  #tell = (type, told) => this.dispatchEvent(Object.assign(new Event(type), told));

  // Whether a message is the middleware's. Where it may not be asked for now, a 4001 will come.
  #took(data) {
    const form = /^\{"type": "([\w.:/-]+)\.(due|ok)", "expires_at": (?:null|[\d.e+-]+)\}$/;
    const [, type, word] = form.exec(data) ?? [];
    const { refreshMessage, now } = this.#options;
    if (!type || type !== refreshMessage) return false;
    if (word === "ok" || this.#asking || now() - this.#asked < GAP) return true;
    const bring = (token) => token && this.send(JSON.stringify({ type, token }));
    this.#credential(true).then(bring, () => {});
    return true;
  }
}

// Requests a ticket from a TicketEndpoint. A 401 means that nobody is logged in, and so does a
// proxy's login page, a redirect to one, or its 403; otherwise the phrase of the refusal decides.
export function ticketFrom(url, init = {}) {
  const headers = [["accept", "application/json"], ...new Headers(init.headers)];
  return async ({ signal } = {}) => {
    const got = await fetch(url, { method: "POST", redirect: "manual", signal, ...init, headers });
    // By its name, since Safari's is a DOMException.
    const noJSON = (error) => (error.name === "SyntaxError" ? {} : Promise.reject(error));
    const { ticket, error } = (await got.json().catch(noJSON)) ?? {};
    if (ticket) return ticket;
    const isLogin = got.ok || got.type === "opaqueredirect" || got.status === 403;
    if (got.status === 401 || (isLogin && !ADVICE.has(error))) return null;
    const after = got.headers.get("retry-after"); // seconds, a date, or null
    const retryAfter = Math.max(0, Number(after) || (Date.parse(after) - Date.now()) / 1000 || 0);
    throw Object.assign(new Error(`${url}: ${got.status}`), { reason: error, retryAfter });
  };
}
