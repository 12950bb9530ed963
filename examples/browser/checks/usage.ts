// What wsauth.d.ts lets a page write, and what not. Nothing runs it: `npm run check` reads it.
import { ADVICE, type Advice, AuthSocket, advice, type Credential, ticketFrom } from "asgi-wsauth";

const ticket: Credential = ticketFrom("/ticket", { headers: { "X-CSRF": "1" } });
const socket = new AuthSocket("/ws", { ticket, heartbeat: 30, ping: "ping", protocols: ["chat"] });
new AuthSocket(new URL("wss://chat.example/ws"), {
  token: async ({ fresh, signal }) => {
    const answer = await fetch(fresh ? "/token?fresh" : "/token", { signal });
    if (answer.status === 429) throw Object.assign(new Error("busy"), { retryAfter: 5 });
    return answer.ok ? answer.text() : null;
  },
  refreshMessage: "auth.refresh",
});

socket.addEventListener("open", ({ protocol }) => protocol.length);
socket.addEventListener("message", ({ data }) => JSON.parse(data));
socket.addEventListener("waiting", ({ delay, code }) => delay + (code ?? 0));
socket.addEventListener("login", ({ reason }) => reason?.startsWith("token_"), { once: true });
socket.addEventListener("stop", function ({ error }) {
  if (error instanceof Error) this.connect();
});
socket.addEventListener("of the page's own", { handleEvent: (event) => event.type });
const sent: boolean = socket.send(new Uint8Array([1, 2]));
socket.close(4000, "bye");

const told: Advice = advice(4001);
const found: Advice | undefined = ADVICE.get("forbidden") ?? ADVICE.get(1012);
const again: string | null = await ticketFrom("/ticket")();
export { again, found, sent, told };

// @ts-expect-error neither `ticket` nor `token`
new AuthSocket("/ws", {});
// @ts-expect-error both of them
new AuthSocket("/ws", { ticket, token: ticket });
// @ts-expect-error a ticket, and not a function that gets one
new AuthSocket("/ws", { ticket: "wst_1" });
// @ts-expect-error no option of this name
new AuthSocket("/ws", { ticket, heartBeat: 30 });
// @ts-expect-error only a close has a delay
socket.addEventListener("message", ({ delay }) => delay);
// @ts-expect-error the table is the server's
ADVICE.set(4001, "stop");
// @ts-expect-error no such advice
export const no: Advice = "retry";
