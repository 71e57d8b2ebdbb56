// Reads a reply as a browser does. Usage: node client.mjs fetch|EventSource URL OF THE SESSION, MESSAGE
// Prints what has come: {"text", "status", "connections", "resets"}.

const [way, url, message] = process.argv.slice(2);
const found = { text: "", status: "", connections: 0, resets: 0 };
let turn = "current";
let lastId = "";

function take(name, data, id) {
  if (!data) return;
  const event = JSON.parse(data);
  turn = event.turn;
  lastId = id;
  if (name === "reset") {
    found.text = "";
    found.resets += 1;
  }
  if (name === "delta") found.text += event.content;
  if (name === "done") found.status = event.status;
}

async function read(response) {
  found.connections += 1;
  let rest = "";
  for await (const piece of response.body.pipeThrough(new TextDecoderStream())) {
    const events = (rest + piece).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s)));
      take(fields.event, fields.data, fields.id);
    }
  }
}

async function byFetch() {
  const headers = { Accept: "text/event-stream", "Content-Type": "application/json" };
  const body = JSON.stringify({ content: message });
  try {
    await read(await fetch(`${url}/messages`, { method: "POST", headers, body }));
  } catch {}
  while (!found.status) {
    try {
      await read(await fetch(`${url}/replies/${turn}`, { headers: { "Last-Event-ID": lastId } }));
    } catch {}
  }
}

async function byEventSource() {
  const headers = { Accept: "text/event-stream", "Content-Type": "application/json" };
  const begun = await fetch(`${url}/messages`, { method: "POST", headers, body: JSON.stringify({ content: message }) });
  await begun.body.cancel();
  const alive = setInterval(() => {}, 1000); // Node would end while EventSource waits to connect again
  await new Promise((resolve) => {
    const source = new EventSource(`${url}/replies/msg-2`);
    source.addEventListener("open", () => (found.connections += 1));
    for (const name of ["message", "delta", "part", "reply", "reset", "error", "done"]) {
      source.addEventListener(name, (event) => {
        take(name, event.data, event.lastEventId);
        if (name === "done") {
          source.close();
          resolve();
        }
      });
    }
  });
  clearInterval(alive);
}

await (way === "fetch" ? byFetch() : byEventSource());
console.log(JSON.stringify(found));
