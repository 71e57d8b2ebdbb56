"""The replies of the chat: by an OpenAI-compatible endpoint if one is configured, otherwise by a few rules.

``OPENAI_API_KEY`` or ``OPENAI_BASE_URL`` configures an endpoint, and ``OPENAI_MODEL`` names its model.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

SECONDS_A_WORD = float(os.environ.get("SECONDS_A_WORD", "0.05"))
"""Pace of the rules, which would be too fast to be seen."""

NAME = re.compile(r"(?i)\b(?:my name is|i am|i'm|call me) (\w+)")

WELCOME = """\
Hello! What is your name?

I am only a few rules, so try one of these:

- *My name is Ada*, and later *Who am I?*
- *Show me some code*, or *Show me a table*
- *Count to 200*, and reload the page in the middle
- *What have I said?*"""

CODE = """\
These two lines keep the conversations of a Flask app:

```python
convstore = ConversationStore(app)
app.register_blueprint(convstore.blueprint)
```

A function that yields makes a **streamed reply**:

```python
@convstore.reply(last=20)
def answer(turn):
    yield "It is "
    yield "noon."
```

The history is in `turn.history`. More is in the [documentation of Flask](https://flask.palletsprojects.com/)."""

TABLE = """\
| You do | What happens |
| --- | --- |
| reload the page in the middle of a reply | the reply goes on |
| open a second tab | it follows, word by word |
| stop the server and write | your message waits |
| start the server again | your message is sent, once |"""


def reply_to(history: list[dict[str, Any]]) -> Iterator[str]:
    """Reply by a model if there is one, otherwise by rules, word by word."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        has_sdk = importlib.util.find_spec("openai") is not None
        yield from by_sdk(history) if has_sdk else by_request(history)
        return
    for word in re.findall(r"\s*\S+\s*", by_rule(history)):
        yield word
        time.sleep(SECONDS_A_WORD)


def _asked(history: list[dict[str, Any]]) -> dict[str, Any]:
    """The request to a model, which takes the history unchanged."""
    return {"model": os.environ.get("OPENAI_MODEL", "gpt-4o-mini"), "messages": history, "stream": True}


def by_sdk(history: list[dict[str, Any]]) -> Iterator[str]:
    """The reply of an OpenAI-compatible endpoint by OpenAI's own package, which reads the environment by itself."""
    openai = importlib.import_module("openai")
    with openai.OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none")) as client:
        for chunk in client.chat.completions.create(**_asked(history)):
            for choice in chunk.choices:
                yield choice.delta.content or ""


def by_request(history: list[dict[str, Any]]) -> Iterator[str]:
    """The same without that package."""
    base = os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1").rstrip("/")
    request = urllib.request.Request(
        f"{base}/chat/completions",
        json.dumps(_asked(history)).encode(),
        {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        for line in response:
            kind, _, data = line.decode().strip().partition(": ")
            if kind == "data" and data != "[DONE]":
                for choice in json.loads(data)["choices"]:
                    yield choice["delta"].get("content") or ""


def by_rule(history: list[dict[str, Any]]) -> str:
    """A small talk that shows the memory of the chat."""
    said = [
        message["content"] for message in history if message["role"] == "user" and isinstance(message["content"], str)
    ]
    text = said[-1] if said else ""
    return _about_the_user(text, said) or _about_what_was_said(text, said) or _for_show(text) or _else(text, said)


def _about_the_user(text: str, said: list[str]) -> str | None:
    names = [found[1] for line in said if (found := NAME.search(line))]
    if re.search(r"(?i)\bwho am i\b|\bmy name\b.*\?|\bremember me\b", text):
        return f"You are {names[-1]}." if names else "You have not told me your name yet."
    if NAME.search(text):
        return f"Nice to meet you, {names[-1]}. Reload the page, or restart the server, and ask me who you are."
    return None


def _about_what_was_said(text: str, said: list[str]) -> str | None:
    if not re.search(r"(?i)\b(what|everything)\b.*\bsaid\b|\bfirst\b.*\bsay\b", text):
        return None
    if not said[:-1]:
        return "Nothing before this."
    return "You said:\n\n" + "\n".join(f"> {line}\n" for line in said[:-1])


def _for_show(text: str) -> str | None:
    counted = re.search(r"(?i)\bcount to (\d{1,4})\b", text)
    if counted:
        return " ".join(map(str, range(1, int(counted[1]) + 1))) + "."
    if re.search(r"(?i)\bcode\b", text):
        return CODE
    if re.search(r"(?i)\btable\b|\bpromise", text):
        return TABLE
    if re.search(r"(?i)\b(hello|hi|hey|good (morning|evening|day)|help|what can you do)\b", text):
        return WELCOME
    return None


def _else(text: str, said: list[str]) -> str:
    if text.rstrip().endswith("?"):
        return "I am only a few rules. Tell me your name, or ask me what you said."
    return f"Noted. That was your message number {len(said)}."
