// A WebSocket that comes back, and does what asgi-wsauth advises when it refuses or ends one.
//
//     import { AuthSocket, ticketFrom } from "./wsauth.js";
//
//     const socket = new AuthSocket("/ws", { ticket: ticketFrom("/ticket") });
//     socket.addEventListener("message", ({ data }) => show(data));
//     socket.addEventListener("login", () => showLogin().then(() => socket.connect()));
//     socket.addEventListener("stop", ({ code, reason }) => show(`${code} ${reason}`));
//
// Events: `open` { protocol }: a refused one opens, too, and closes at once; only a message proves
// that the server let it in. `message` { data }. `waiting` { delay, code, reason }: closed, and
// opened again after `delay` ms. `login` { code, reason }: somebody has to log in; call connect()
// then. `stop` { code, reason }: closed for good. Where there was no socket there is no code, and
// `error` is what the page's own function threw.
//
// Nothing here writes on the console. Chromium does where a handshake fails, and with the address:
// so the only credential for an address is a ticket, which is of no use half a minute later.

// What to do after a close: its reason says it, or else its code.
// `python tests/browser_table.py` makes these lines of asgi_wsauth/denial.py.
const ADVICE = new Map([
  ["token_missing", "stop"], ["token_malformed", "stop"], ["token_invalid", "stop"],
  ["token_expired", "refresh"], ["keys_unavailable", "refresh, with backoff"],
  ["token_revoked", "log in again"], ["forbidden", "stop"], ["origin_not_allowed", "stop"],
  ["too_many_failures", "retry later"], ["too_many_connections", "retry later"],
  ["verifier_unavailable", "retry later"], ["internal_error", "retry later"], [1001, "retry later"],
  [1006, "refresh once, then retry later"], [1008, "stop"], [1011, "retry later"],
  [1012, "retry later"], [1013, "retry later"], [3000, "stop"], [3003, "stop"], [4001, "refresh"],
  [4004, "log in again"], [4011, "retry later"], [4013, "retry later"],
]);

const DEFAULTS = {
  // One of these two: an async function of the page that is called before each try. It gives the
  // credential, or null where somebody has to log in. It is told { fresh, signal }: `fresh` is true
  // where the last credential is of no use any more, `signal` ends what takes too long.
  ticket: null, // for the address, as Tickets and QueryParam take it
  token: null, // for a subprotocol, as Subprotocol takes it
  param: "token", // the name of the ticket in the address
  protocols: [], // the app's own subprotocols
  refreshMessage: null, // as in WebSocketAuthMiddleware(refresh_message="auth.refresh")
  base: 1000, // ms: bound of the first delay, doubled for each one after it
  cap: 30_000, // ms: what that bound never exceeds
  steady: 5000, // ms: a socket that was open for so long was a good one, and counting starts anew
  timeout: 20_000, // ms for a credential, and for a handshake
  random: () => Math.random(), // this one and those below are for tests
  now: () => performance.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
};

export class AuthSocket extends EventTarget {
  #url;
  #options;
  #socket = null;
  #current = new AbortController(); // of this try, or wait: what is aborted counts for nothing
  #delays = 0; // since a socket was last steady
  #followed = new Set(); // advice, since then
  #fresh = false; // whether the next credential must be a new one

  constructor(url, options) {
    super();
    this.#options = { ...DEFAULTS, ...options };
    if (!this.#options.ticket === !this.#options.token) {
      throw new TypeError("AuthSocket needs one function, as `ticket` or as `token`");
    }
    this.#url = new URL(url, location.href);
    this.connect();
  }

  // Begins anew, as after a login.
  connect() {
    this.close();
    this.#delays = 0;
    this.#followed.clear();
    this.#fresh = false;
    this.#try();
  }

  // Returns whether it was sent. Nothing is kept for the next socket, whose app knows of nothing.
  send(data) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(data);
    return true;
  }

  // Ends it without an event, and for good.
  close(code = 1000, reason = "") {
    this.#socket?.close(code, reason);
    this.#next();
  }

  #next() {
    this.#current.abort();
    this.#current = new AbortController();
    return this.#current.signal;
  }

  // A signal for what may not outlast this try, nor take too long.
  #limit() {
    return AbortSignal.any([this.#current.signal, AbortSignal.timeout(this.#options.timeout)]);
  }

  async #credential(fresh) {
    const signal = this.#limit();
    const asked = (this.#options.ticket ?? this.#options.token)({ fresh, signal });
    const late = new Promise((_, no) => signal.addEventListener("abort", () => no(signal.reason)));
    return Promise.race([asked, late]);
  }

  async #try() {
    const current = this.#next();
    try {
      const credential = await this.#credential(this.#fresh);
      if (current.aborted) return;
      this.#fresh = false;
      if (credential) this.#open(credential, current);
      else this.#end("login");
    } catch (error) {
      const reason = error?.reason;
      if (!current.aborted) this.#follow(ADVICE.get(reason) ?? "retry later", { reason, error });
    }
  }

  #open(credential, current) {
    const { ticket, param, protocols, now, steady } = this.#options;
    const url = new URL(this.#url);
    if (ticket) url.searchParams.set(param, credential);
    let socket;
    try {
      socket = new WebSocket(url, ticket ? protocols : ["bearer", credential, ...protocols]);
    } catch (error) {
      return this.#end("stop", { reason: error.name }); // its message has the credential
    }
    this.#socket = socket;
    this.#limit().addEventListener("abort", () => {
      if (socket.readyState === WebSocket.CONNECTING) socket.close(); // which makes a 1006
    });
    let since = Infinity;
    const on = (type, run) => socket.addEventListener(type, run, { signal: current });
    on("open", () => {
      since = now();
      this.#tell("open", { protocol: socket.protocol });
    });
    on("message", ({ data }) => this.#isOurs(data) || this.#tell("message", { data }));
    on("close", ({ code, reason }) => {
      if (now() - since >= steady) {
        this.#delays = 0;
        this.#followed.clear();
      }
      this.#follow(ADVICE.get(reason) ?? ADVICE.get(code) ?? "stop", { code, reason });
    });
  }

  #follow(advice, told) {
    const first = !this.#followed.has(advice);
    this.#followed.add(advice);
    if (advice === "stop") return this.#end("stop", told);
    if (advice === "log in again") return this.#end("login", told);
    if (advice === "refresh once, then retry later") this.#fresh ||= first;
    else if (advice !== "retry later") this.#fresh = true;
    const { base, cap, random } = this.#options;
    // Full jitter: anything below a bound that doubles, so that not all clients come at once.
    const pause = () => random() * Math.min(cap, base * 2 ** this.#delays++);
    const delay = advice === "refresh" && first ? 0 : navigator.onLine ? pause() : cap;
    const signal = this.#end("waiting", { delay, ...told });
    const go = () => signal.aborted || this.#try();
    this.#options.setTimeout(go, delay);
    addEventListener("online", go, { signal });
  }

  #end(type, told) {
    const signal = this.#next();
    this.#tell(type, told);
    return signal;
  }

  #tell(type, told) {
    this.dispatchEvent(Object.assign(new Event(type), told));
  }

  // Whether a message was about the credential; one that says that a new one is due is answered.
  #isOurs(data) {
    const type = this.#options.refreshMessage;
    const says = (what) => type && String(data).startsWith(`{"type": "${type}.${what}"`);
    const bring = (token) => token && this.send(JSON.stringify({ type, token }));
    if (says("due")) this.#credential(true).then(bring, () => {}); // without one comes a 4001
    return says("due") || says("ok");
  }
}

// Asks a TicketEndpoint. A 401 says that nobody is logged in; else the phrase of a refusal counts.
export function ticketFrom(url, init = {}) {
  return async ({ signal }) => {
    const answer = await fetch(url, { method: "POST", signal, ...init });
    if (answer.status === 401) return null;
    const { ticket, error } = await answer.json();
    if (ticket) return ticket;
    throw Object.assign(new Error(`${url}: ${answer.status}`), { reason: error });
  };
}
