// The few things that all parts of the page need.
export const $ = (id) => document.getElementById(id);

/** A copy of the first element of a template. */
export const copyOf = (id) => $(id).content.firstElementChild.cloneNode(true);

export function button(label, icon, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.action = action;
  if (icon) {
    made.className = "icon";
    made.ariaLabel = made.title = label;
    made.append(iconOf(icon));
  } else {
    made.className = "quiet";
    made.textContent = label;
  }
  return made;
}

export function iconOf(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Call *draw* once in the next frame, however often the returned function is called before. */
export function eachFrame(draw) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      draw();
    });
  };
}

/** Let a text field grow with its text, up to a part of the window. The height is set by rows, as no inline style is allowed. */
export function grow(field) {
  field.rows = 1;
  const line = parseFloat(getComputedStyle(field).lineHeight);
  const padding = field.clientHeight - line;
  const most = Math.max(3, Math.floor((innerHeight * 0.4) / line));
  field.rows = Math.min(most, Math.max(1, Math.round((field.scrollHeight - padding) / line)));
}

/** Children of *list* in this order. What is in its place is not touched, so that it keeps the focus. */
export function arrange(list, children) {
  const wanted = new Set(children);
  for (const child of [...list.children]) if (!wanted.has(child)) child.remove(); // first, or all behind it would move
  children.forEach((child, place) => {
    if (list.children[place] !== child) list.insertBefore(child, list.children[place] ?? null);
  });
}

/** Give the focus to the message field, where what had it goes away. On a touch screen that would show the keyboard. */
export function rest() {
  const isTouch = matchMedia("(hover: none)").matches;
  $(isTouch ? "scroll" : "text").focus({ preventScroll: true });
}

const WORDS = {
  unreachable: "The server cannot be reached.",
  unavailable: "The store of the server cannot be reached.",
  "queue-full": "Too much waits for the server already.",
  "too-large": "This is too long.",
  "too-many-turns": "That were many messages in a minute.",
  "not-found": "This conversation has ended.",
  "turn-in-progress": "Another reply is coming in this conversation.",
  "reply-failed": "The reply has failed.",
  "nothing-to-replace": "The message is not there any more.",
  conflict: "Somebody else has changed this meanwhile.",
  "precondition-failed": "Somebody else has changed this meanwhile.",
  moved: "This conversation goes on in another one.",
};

/** What went wrong, in plain words. */
export function wordsFor(error) {
  const most = error?.type === "too-large" && /in bytes.*: ([\d,]+), at most ([\d,]+) are allowed/.exec(error.detail);
  if (most) return `This is too long: ${most[1]} bytes, and ${most[2]} are allowed.`;
  return WORDS[error?.type] ?? error?.detail ?? "Something went wrong.";
}

export function copy(text, pressed) {
  navigator.clipboard.writeText(text).then(
    () => {
      const before = [...pressed.childNodes];
      pressed.replaceChildren(pressed.className === "icon" ? iconOf("done") : "Copied");
      $("said").textContent = "Copied.";
      setTimeout(() => pressed.replaceChildren(...before), 1500);
    },
    () => {
      $("said").textContent = "The browser did not let the page copy.";
    },
  );
}
