import { AuthSocket, ticketFrom } from "asgi-wsauth";
import { useEffect, useRef, useState } from "react";

export function useAuthSocket(url: string, onMessage: (data: string) => void) {
  const [state, setState] = useState("connecting");
  const socket = useRef<AuthSocket>(null);
  const latest = useRef(onMessage);
  useEffect(() => {
    latest.current = onMessage; // a new function needs no new socket
  });
  useEffect(() => {
    const opened = new AuthSocket(url, { ticket: ticketFrom("/ticket"), heartbeat: 30, ping: "ping" });
    socket.current = opened;
    for (const type of ["open", "waiting", "login", "stop"]) {
      opened.addEventListener(type, () => setState(type));
    }
    opened.addEventListener("message", ({ data }) => latest.current(data));
    return () => opened.close();
  }, [url]);
  const send = (data: string) => socket.current?.send(data) ?? false;
  const connect = () => socket.current?.connect();
  return { state, send, connect };
}
