"""The table of docs/http.md, made of the document: ``python -m tests.http_table`` writes it, and a test compares."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .service import Service

PAGE = Path(__file__).parent.parent / "docs" / "http.md"
BEGIN, END = "<!-- made of the document by python -m tests.http_table -->\n", "<!-- end -->\n"


def table() -> str:
    """Each route: what it does, takes and answers."""
    settings: dict[str, Any] = {
        "CLIENT_TTL": True,
        "CLIENT_USAGE": True,
        "ANONYMOUS_OWNER": True,
        "MAX_TURNS_PER_MINUTE": 1,
        "METRICS": True,
    }
    service = Service("memory://", **settings)
    service.app.secret_key = "of no use"
    document = service.json(service.client.get("/sessions/openapi.json"), 200)
    rows = ["| route | does | takes | answers |", "| --- | --- | --- | --- |"]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            cells = operation["summary"], _taken(document, operation), _answers(operation)
            rows.append(f"| `{method.upper()} {path}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _taken(document: Any, operation: Any) -> str:
    parts = []
    query = [found["name"] for found in operation["parameters"] if found["in"] == "query"]
    if query:
        parts.append(f"`?{'=&'.join(query)}=`")
    for media in operation.get("requestBody", {}).get("content", {}).values():
        if "$ref" not in media["schema"]:
            parts.append("JSON Lines")
            continue
        body = document["components"]["schemas"][media["schema"]["$ref"].rpartition("/")[2]]
        names = [name if name in body.get("required", ()) else f"{name}?" for name in body["properties"]]
        parts.append(f"`{{{', '.join(names)}}}`")
    parts += [f"`{found['name']}`" for found in operation["parameters"] if found["in"] == "header"]
    return ", ".join(parts) or "-"


def _answers(operation: Any) -> str:
    """Successes with their headers, then the types of problems by status."""
    parts = []
    for status, response in operation["responses"].items():
        media = response.get("content", {}).get("application/problem+json")
        if media:
            slugs = media["schema"]["allOf"][1]["properties"]["type"]["enum"]
            parts.append(f"{status} {', '.join(slug.rpartition(':')[2] for slug in slugs)}")
        else:
            headers = [name for name in response.get("headers", {}) if not name.startswith("Convstore")]
            parts.append(f"**{status}**" + "".join(f" `{name}`" for name in headers))
    return "; ".join(parts)


def replaced(text: str) -> str:
    """*text* of the page with the table as it is now."""
    return re.sub(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", lambda _: table(), text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(replaced(PAGE.read_text("utf-8")), "utf-8")
