// Clients of graphql-ws, all at once. Each is an object: `url`; `params`, the connectionParams of its
// first connection, of its second and so on; `query`. What became of each goes to standard output:
// `data`, `closes` with code and reason, `protocol`, and `ended`: "complete", or "gave up".
import { createClient } from "graphql-ws";
import WebSocket from "ws";

async function become({ url, params, query }) {
  const seen = { data: [], closes: [], protocol: null, ended: "complete" };
  const client = createClient({
    url,
    webSocketImpl: WebSocket,
    connectionParams: async () => params[Math.min(seen.closes.length, params.length - 1)],
    retryAttempts: 2,
    retryWait: async () => {},
    on: {
      opened: (socket) => { seen.protocol = socket.protocol; },
      closed: (event) => { if (event.code !== 1000) seen.closes.push([event.code, event.reason]); },
    },
  });
  try {
    for await (const result of client.iterate({ query })) seen.data.push(result.data);
  } catch {
    seen.ended = "gave up";
  }
  await client.dispose();
  return seen;
}

console.log(JSON.stringify(await Promise.all(JSON.parse(process.argv[2]).map(become))));
