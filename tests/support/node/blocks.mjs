// Runs a block of the docs, which names `token`, `show` and `closed` as if they were its reader's.
// Given are its `code` and the `token`; what it called first, and with what, goes to standard output.
// React Native's WebSocket takes what that of `ws` takes: address, subprotocols, and headers.
import { rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";

const { code, token } = JSON.parse(process.argv[2]);
const end = (...called) => { console.log(JSON.stringify(called)); process.exit(); };
const show = (...given) => end("show", ...given);
const closed = (...given) => end("closed", ...given);
Object.assign(globalThis, { token, show, closed, WebSocket });
const file = new URL(`block-${process.pid}.mjs`, import.meta.url);
writeFileSync(file, code);
process.on("exit", () => rmSync(fileURLToPath(file)));
await import(file);
