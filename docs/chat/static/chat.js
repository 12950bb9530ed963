import { AuthSocket, ticketFrom } from "./wsauth.js";

const $ = (id) => document.getElementById(id);
const line = (text) => Object.assign(document.createElement("li"), { textContent: text });
let session; // which socket this page has

function show(state) {
  $("state").textContent = state;
  $("room").hidden = !state.startsWith("connected");
  $("login").hidden = !state.startsWith("logged out");
}

const socket = new AuthSocket("/ws", { ticket: ticketFrom("/ticket") });

socket.addEventListener("message", ({ data }) => {
  const message = JSON.parse(data);
  if (message.from) return $("talk").append(line(`${message.from}: ${message.text}`));
  session = message.session; // the first message: we are in
  show(`connected as ${message.you}`);
  look();
});
// Without a socket there is no code: the server refused the ticket, or is away.
const why = ({ code, reason }) => [code, reason].filter(Boolean).join(" ");
socket.addEventListener("login", (event) => show(`logged out ${why(event)}`));
socket.addEventListener("waiting", (event) => show(`waiting: ${why(event)}`));
socket.addEventListener("stop", (event) => show(`refused: ${why(event)}`));

$("say").onsubmit = (event) => {
  event.preventDefault();
  if (socket.send(event.target.text.value)) event.target.reset();
};

$("login").onsubmit = async (event) => {
  event.preventDefault();
  const body = JSON.stringify(Object.fromEntries(new FormData(event.target)));
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch("/login", { method: "POST", body, headers });
  if (!answer.ok) return show(`logged out: ${(await answer.json()).detail}`);
  event.target.reset();
  show("connecting");
  socket.connect();
};

$("logout").onclick = () => fetch("/logout", { method: "POST" });

async function look() {
  const { sessions } = await (await fetch("/sessions/")).json();
  $("sessions").replaceChildren(...sessions.map(entry));
}

function entry({ id, client, since, user_agent }) {
  const time = new Date(since * 1000).toLocaleTimeString();
  const found = line(`${client}, since ${time}: ${user_agent} `);
  const end = Object.assign(document.createElement("button"), { textContent: "Log out" });
  end.onclick = () => fetch(`/sessions/${id}`, { method: "DELETE" }).then(look);
  found.append(id === session ? "(this page)" : end);
  return found;
}

$("look").onclick = look;
