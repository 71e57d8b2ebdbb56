// A client of streamed replies. It reads the events of one reply, and connects again wherever it was cut.

/** Iterate over the server-sent events of an answer. */
async function* eventsOf(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/)));
      if (fields.data) yield { id: fields.id, name: fields.event, ...JSON.parse(fields.data) };
    }
  }
}

async function problemOf(answer) {
  const problem = await answer.json().catch(() => ({}));
  return Object.assign(new Error(problem.detail || answer.statusText), { status: answer.status });
}

/**
 * Iterate over the events of a reply: the one to `message`, or without it the one in progress. The event `waiting` says
 * that the connection is lost, and tried again.
 *
 * @param {string} session Path of the session, such as "/sessions/0b9f…".
 */
export async function* reply(session, message) {
  const key = crypto.randomUUID();
  let turn = message ? null : "current";
  let last;
  for (;;) {
    try {
      const answer = turn
        ? await fetch(`${session}/replies/${turn}`, { headers: last ? { "Last-Event-ID": last } : {} })
        : await fetch(`${session}/messages`, {
            method: "POST",
            headers: { Accept: "text/event-stream", "Content-Type": "application/json", "Idempotency-Key": key },
            body: JSON.stringify(message),
          });
      if (answer.status === 204) return;
      if (!answer.ok) throw await problemOf(answer);
      if (!answer.headers.get("Content-Type").startsWith("text/event-stream")) {
        yield { name: "reply", ...(await answer.json()) }; // a worker that cannot stream
        return;
      }
      for await (const event of eventsOf(answer)) {
        ({ turn, id: last } = event);
        yield event;
        if (event.name === "done") return;
      }
    } catch (error) {
      if (error.status && error.status !== 503) throw error;
      yield { name: "waiting", turn, detail: error.message };
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** Stop a reply. What had come of it is stored, and its events end. */
export async function stop(session, turn) {
  const answer = await fetch(`${session}/replies/${turn}`, { method: "DELETE" });
  if (!answer.ok) throw await problemOf(answer);
}
