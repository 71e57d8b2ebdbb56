/* Follows live: asks for the same page every few seconds, and puts those of its parts in place that have changed.
   Focus, scroll positions and what is folded stay. A part in which somebody has marked text waits. */

const seconds = Number(document.body.dataset.live);
const button = document.getElementById("live");
const notice = document.getElementById("notice");
let isOn = true;
let timer = 0;
let hasFailed = false;

function isMarked(part) {
    const marked = document.getSelection();
    return marked !== null && !marked.isCollapsed && marked.containsNode(part, true);
}

function restored(part, put) {
    const open = [...part.querySelectorAll("details[open]")].map(each => each.id);
    const scrolled = [...part.querySelectorAll("[tabindex]")].map(each => [each.scrollTop, each.scrollLeft]);
    const places = [...part.querySelectorAll("a, button, summary, [tabindex]")];
    const focused = places.indexOf(document.activeElement);
    put();
    for (const id of open) {
        const found = document.getElementById(id);
        if (found) found.open = true;
    }
    [...part.querySelectorAll("[tabindex]")].forEach((each, place) => {
        if (scrolled[place]) [each.scrollTop, each.scrollLeft] = scrolled[place];
    });
    if (focused < 0) return;
    const same = [...part.querySelectorAll("a, button, summary, [tabindex]")];
    const old = places[focused];
    const found = same.find(each => each.href === old.href && each.textContent === old.textContent) ?? same[focused];
    found?.focus({preventScroll: true});
}

function replace(part, fresh) {
    if (part.innerHTML === fresh.innerHTML && part.className === fresh.className) return;
    if (isMarked(part)) return;
    restored(part, () => {
        part.className = fresh.className;
        part.replaceChildren(...fresh.childNodes);
    });
}

function namesOfParts(main) {
    return [...main.querySelectorAll("[data-part]")].map(each => each.id).join();
}

function tell(text) {
    if (notice.textContent.trim() === text) return;
    const line = document.createElement("p");
    line.className = "notice";
    line.textContent = text;
    notice.replaceChildren(...(text ? [line] : []));
}

function isRefused(answer) {
    return answer.type === "opaqueredirect" || answer.status === 401 || answer.status === 403;
}

async function look() {
    try {
        const answer = await fetch(location.href, {redirect: "manual", signal: AbortSignal.timeout(20_000)});
        if (isRefused(answer)) {
            hasFailed = true;
            tell("You are not let in any more. What you see is old. Load the page anew to log in.");
            return;
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        if (!page.getElementById("state")) throw new Error("this is no page of the inspector");
        for (const part of document.querySelectorAll("[data-part]")) {
            const fresh = page.getElementById(part.id);
            if (fresh) replace(part, fresh);
        }
        const main = document.getElementById("main");
        if (answer.ok && namesOfParts(main) !== namesOfParts(page.getElementById("main"))) {
            main.replaceChildren(...page.getElementById("main").childNodes); // the store has answered again
            document.title = page.title;
        }
        if (hasFailed) tell("");
        hasFailed = false;
        if (answer.status === 404) tell("This session is gone. What you see is the last of it.");
    } catch {
        hasFailed = true;
        tell("The app does not answer. What you see is old. It is asked again every few seconds.");
    }
}

function next() {
    clearTimeout(timer);
    if (isOn && !document.hidden) timer = setTimeout(() => look().finally(next), seconds * 1000);
}

button.hidden = false;
button.addEventListener("click", () => {
    isOn = !isOn;
    button.setAttribute("aria-pressed", String(isOn));
    next();
});
document.addEventListener("visibilitychange", () => {
    if (document.hidden || !isOn) next();
    else look().finally(next);
});
next();
