"""A page on which clients of examples/browser/wsauth.js run, in whatever browser."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from browser_table import MODULE

__all__ = ["HARNESS", "SOURCE", "Seen"]

SOURCE = MODULE.read_text(encoding="utf-8")
# The address of the module, for `import`.
_MODULE = f"data:text/javascript;base64,{base64.b64encode(SOURCE.encode()).decode()}"

# Starts a client and notes what happens to it. `credentials` are given one after the other, the
# last one again and again; an object among them is thrown. The first `tries` delays end at once,
# and the next one never; without `tries` they take their time. `random` gives the first numbers.
HARNESS = (
    f'globalThis.module = "{_MODULE}";'
    + """
// What each socket heard and said, as it came, and their addresses.
globalThis.tried = [];
globalThis.heard = [];
globalThis.spoken = [];
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    tried.push(this.url);
    this.addEventListener("message", ({ data }) => heard.push(data));
  }
  send(data) { spoken.push(data); super.send(data); }
};
// What sees whether a peer was heard, for each socket that has a heartbeat. Tests that it must not
// surprise on a busy machine give a long one, and `look` by hand.
globalThis.looks = new Map();
const [every, enough] = [setInterval, clearInterval];
globalThis.setInterval = (run, ms) => {
  const id = every(run, ms);
  looks.set(id, run);
  return id;
};
globalThis.clearInterval = (id) => { looks.delete(id); enough(id); };
globalThis.look = () => looks.forEach((run) => run());
// What was asked for over HTTP.
globalThis.fetched = [];
const fetchIt = fetch;
globalThis.fetch = (url, how) => { fetched.push([url, how]); return fetchIt(url, how); };
const sockets = [];
globalThis.endAll = () => { clock = 0; sockets.splice(0).forEach((socket) => socket.close()); };
globalThis.clock = 0;
globalThis.start = async ([url, settings]) => {
  const { carrier, credentials, tries, random, say, reconnectAt, from, ticks, ...given } = settings;
  const { AuthSocket, ticketFrom } = await import(module);
  const asked = [], delays = [], events = [], waiters = new Set();
  const numbers = [...(random ?? [])];
  const note = (...what) => { events.push(what); waiters.forEach((waiter) => waiter()); };
  const give = async ({ fresh, signal }) => {
    asked.push(fresh);
    globalThis.lastSignal = signal;
    const one = credentials[Math.min(asked.length, credentials.length) - 1];
    if (one === "never") return new Promise(() => {});
    if (one === "later") return new Promise((resolve) => { globalThis.bring = resolve; });
    if (one === "close") { socket.close(); note("closed"); return "opaque-1"; }
    if (one?.message) throw Object.assign(new Error(one.message), one);
    return one;
  };
  const options = { [carrier]: credentials ? give : ticketFrom(from ?? "/ticket"), ...given };
  if (random !== null) options.random = () => numbers.shift() ?? 0.5;
  if (tries !== undefined) options.setTimeout = (run, ms) => {
    delays.push(ms);
    delays.length <= tries ? setTimeout(run) : note("held");
  };
  if (!ticks) options.now = () => clock;
  const socket = new AuthSocket(url, options);
  sockets.push(socket);
  socket.addEventListener("open", () => { note("open"); if (say) socket.send(say); });
  socket.addEventListener("message", ({ data }) => note("message", data));
  for (const type of ["waiting", "login", "stop"]) {
    socket.addEventListener(type, ({ code, reason, delay, error }) => {
      if (tries === undefined && type === "waiting") delays.push(delay);
      note(type, code ?? null, reason ?? null, error?.name ?? null);
      if (type === reconnectAt) socket.connect();
    });
  }
  const until = (type, n) => new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error(`no ${type}: ${JSON.stringify(events)}`)), 20_000);
    const look = () => {
      if (events.filter((event) => event[0] === type).length < n) return;
      waiters.delete(look);
      resolve(structuredClone({ asked, delays, events }));
    };
    waiters.add(look);
    look();
  });
  return { socket, until };
};
"""
)


@dataclass
class Seen:
    """What happened to a client.

    Attributes:
        asked: for each credential that the page was asked for, whether it had to be a fresh one.
        delays: milliseconds that it wanted to wait.
        events: type, code, reason, and the error's name.
    """

    asked: list[bool]
    delays: list[float]
    events: list[list[Any]]

    @property
    def kinds(self) -> list[str]:
        return [event[0] for event in self.events]

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """Code and reason of these events, or what the messages say."""
        return [tuple(event[1:3]) for event in self.events if event[0] == kind]
