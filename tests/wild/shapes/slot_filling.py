"""A form is filled by chat: a step, slots, attempts, a flag when all is there, and a log of the steps."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
forms: dict[str, dict[str, Any]] = {}  # convstore: ConversationStore(app).sessions

STEPS = {"name": "age", "age": "city", "city": "end"}


def llm(text: str, step: str) -> str:
    return f"reply to {text}"


@app.post("/form/<sid>")
def fill(sid: str) -> Any:
    form = forms.setdefault(sid, {"step": "name", "slots": {}, "tries": {"n": 0}, "log": [], "complete": False})
    text = request.json["text"]
    reply = llm(text, form["step"])
    form["tries"]["n"] += 1
    form["log"].append({"said": text, "reply": reply})
    if request.json.get("slot"):
        form["slots"][request.json["slot"]] = text
    elif form["step"] != "end":
        form["slots"][form["step"]] = text
        form["step"] = STEPS[form["step"]]
    form["complete"] = form["step"] == "end"
    return jsonify(reply=reply)


@app.get("/form/<sid>")
def show(sid: str) -> Any:
    return jsonify(forms.get(sid))


@app.delete("/form/<sid>")
def forget(sid: str) -> Any:
    form = forms.pop(sid, None)
    return jsonify(had=form and form["slots"])


REQUESTS = [
    ("GET", "/form/a", None),
    ("POST", "/form/a", {"text": "ada"}),
    ("POST", "/form/a", {"text": "36"}),
    ("GET", "/form/a", None),
    ("POST", "/form/a", {"text": "london"}),
    ("POST", "/form/a", {"text": "again"}),
    ("GET", "/form/a", None),
    ("DELETE", "/form/a", None),
    ("DELETE", "/form/a", None),
    ("GET", "/form/a", None),
]
BEFORE = [("POST", "/form/s", {"text": "ada"})]
TOGETHER = [("POST", "/form/s", {"text": "one", "slot": "tea"}), ("POST", "/form/s", {"text": "two", "slot": "cake"})]
AFTER = [("GET", "/form/s", None)]
