// Markdown to safe nodes. A reply that grows is parsed only behind its last finished block.
import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";

const escaped = (text) =>
  text.replace(/[&<>"']/g, (found) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" })[found]);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html: ({ text }) => escaped(text),
    // An image would be fetched from a host that a model has chosen.
    image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

const SAFE = {
  RETURN_DOM_FRAGMENT: true,
  ALLOWED_TAGS: [
    ..."a b blockquote br code del div em h3 h4 h5 h6 hr i li ol p pre s strong sub sup".split(" "),
    ..."table tbody td th thead tr ul".split(" "),
  ],
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A" && node.hasAttribute("href")) {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
  if (node.tagName !== "CODE") node.removeAttribute("class");
});

const normal = (text) => text.replace(/\r\n?/g, "\n");
const lexed = (text) => marked.lexer(text);

function rendered(tokens) {
  const fragment = DOMPurify.sanitize(marked.parser(tokens), SAFE);
  for (const table of fragment.querySelectorAll("table")) within(table, "table");
  for (const pre of fragment.querySelectorAll("pre")) {
    const language = /language-([\w+#.-]+)/.exec(pre.firstElementChild?.className ?? "")?.[1] ?? "text";
    const bar = document.createElement("div");
    bar.className = "code-bar";
    const name = document.createElement("span");
    name.textContent = language;
    const copy = document.createElement("button");
    copy.type = "button";
    copy.dataset.action = "copy-code";
    copy.textContent = "Copy code";
    bar.append(name, copy);
    pre.dir = "ltr";
    within(pre, "code").prepend(bar);
  }
  return fragment;
}

/** Put a wide thing into a box of its own, which scrolls, also by keyboard. */
function within(node, kind) {
  const box = document.createElement("div");
  box.className = kind;
  node.replaceWith(box);
  const scrolls = kind === "code" ? node : box;
  scrolls.tabIndex = 0;
  scrolls.role = "region";
  scrolls.ariaLabel = kind === "code" ? "Code" : "Table";
  box.append(node);
  return box;
}

/** Show text that grows in *element*. */
export class Growing {
  #element;
  #finished = "";
  #open = [];

  constructor(element) {
    this.#element = element;
  }

  show(text) {
    text = normal(text);
    if (!text.startsWith(this.#finished)) {
      this.#finished = "";
      this.#open = [];
      this.#element.replaceChildren();
    }
    const tokens = lexed(text.slice(this.#finished.length));
    const last = Math.max(tokens.findLastIndex((token) => token.type !== "space"), 0);
    for (const node of this.#open) node.remove();
    this.#element.append(rendered(tokens.slice(0, last)));
    this.#finished += tokens.slice(0, last).map((token) => token.raw).join("");
    const fragment = rendered(tokens.slice(last));
    this.#open = [...fragment.childNodes];
    this.#element.append(fragment);
  }

  /** Show the whole text, where a definition at its end may belong to a link at its beginning. */
  finish(text) {
    this.#element.replaceChildren(rendered(lexed(normal(text))));
  }
}
