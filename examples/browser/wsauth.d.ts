/** What to do after a close, or after a refusal over HTTP. */
export type Advice =
  | "stop"
  | "refresh"
  | "refresh, with backoff"
  | "log in again"
  | "retry later"
  | "refresh once, then retry later";

/** Advice by phrase (a close reason, or `error` in a JSON body) and by close code. */
export const ADVICE: ReadonlyMap<string | number, Advice>;

/** The advice for a close. A known phrase takes precedence over the code. */
export function advice(code: number, reason?: string): Advice;

export interface Ask {
  /** Whether the last credential can't be used again. */
  fresh: boolean;
  /** Aborted when the answer takes too long, or when the page closes the socket. */
  signal: AbortSignal;
}

/**
 * Called before each attempt. Returns the credential, or null if the user has to log in. What it
 * throws may have a `reason`, a phrase of the table, and a `retryAfter`, seconds to wait at least.
 */
export type Credential = (ask: Ask) => Promise<string | null | undefined>;

/** What `WebSocket.send` takes. */
export type Data = Parameters<WebSocket["send"]>[0];

export interface Options {
  /** The name of the ticket's query parameter; "token". */
  param?: string;
  /** The app's own subprotocols. */
  protocols?: readonly string[];
  /** As in `WebSocketAuthMiddleware(refresh_message="auth.refresh")`; none. */
  refreshMessage?: string | null;
  /** Seconds after which a silent peer counts as dead; 0: never. */
  heartbeat?: number;
  /** What to send that often, for your app to answer with anything; nothing. */
  ping?: Data | null;
  /** Milliseconds: bound of the first random delay, doubled for each next one; 1000. */
  base?: number;
  /** The same, where the server says "later", as it does to all clients at once; 10,000. */
  spread?: number;
  /** Milliseconds: the largest bound; 30,000. */
  cap?: number;
  /** Milliseconds: a socket that was open this long resets the backoff; 5000. */
  steady?: number;
  /** Milliseconds for a credential, and for a handshake; 20,000. */
  timeout?: number;
  /** For tests. */
  random?: () => number;
  /** For tests: milliseconds, of a clock that is never set back. */
  now?: () => number;
  /** For tests. */
  setTimeout?: (run: () => void, ms: number) => unknown;
}

/** Sends a ticket in the URL, for `Tickets` and `QueryParam`. */
export interface TicketOptions extends Options {
  ticket: Credential;
  token?: null;
}

/** Sends a token as a subprotocol, for `Subprotocol`. */
export interface TokenOptions extends Options {
  token: Credential;
  ticket?: null;
}

/** Why there is no socket any more. */
export interface Closed extends Event {
  /** The close code; undefined where there was no socket. */
  readonly code?: number;
  /** The phrase of the refusal, or another close reason. */
  readonly reason?: string;
  /** What the page's own function threw. */
  readonly error?: unknown;
}

export interface AuthSocketEventMap {
  /** A refused socket opens, too, and closes at once; only a message proves that it was admitted. */
  open: Event & { readonly protocol: string };
  // biome-ignore lint/suspicious/noExplicitAny: as in the DOM's MessageEvent
  message: Event & { readonly data: any };
  /** Closed, and reopened after `delay` milliseconds. */
  waiting: Closed & { readonly delay: number };
  /** The user has to log in; call `connect()` then. */
  login: Closed;
  /** Closed for good. */
  stop: Closed;
}

/** A WebSocket that reconnects, and follows asgi-wsauth's advice. It connects when it is built. */
export class AuthSocket extends EventTarget {
  constructor(url: string | URL, options: TicketOptions | TokenOptions);
  /** Starts again, as after a login. */
  connect(): void;
  /** Returns whether it was sent. Nothing is queued for the next socket. */
  send(data: Data): boolean;
  /** Closes it for good, without an event. */
  close(code?: number, reason?: string): void;
  addEventListener<K extends keyof AuthSocketEventMap>(
    type: K,
    listener: (this: AuthSocket, event: AuthSocketEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof AuthSocketEventMap>(
    type: K,
    listener: (this: AuthSocket, event: AuthSocketEventMap[K]) => void,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | EventListenerOptions,
  ): void;
}

/**
 * A function that requests tickets from a `TicketEndpoint`: null where nobody is logged in. Options
 * are those of `fetch`.
 */
export function ticketFrom(
  url: string | URL,
  init?: RequestInit,
): (ask?: Partial<Ask>) => Promise<string | null>;
