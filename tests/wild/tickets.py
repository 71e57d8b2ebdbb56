"""marshmallow: a schema checks what comes in and makes the objects that lie in the dict."""

from typing import Any

from flask import Flask, jsonify, request
from marshmallow import Schema, ValidationError, fields, post_load, validate

app = Flask(__name__)


class Ticket:
    def __init__(self, subject: str, opened: Any, status: str = "open", messages: list[Any] | None = None) -> None:
        self.subject, self.opened, self.status, self.messages = subject, opened, status, messages or []


class TicketSchema(Schema):
    subject = fields.Str(required=True, validate=validate.Length(1, 40))
    opened = fields.DateTime(required=True)
    status = fields.Str(validate=validate.OneOf(["open", "closed"]))
    messages = fields.List(fields.Dict())

    @post_load
    def make(self, data: Any, **_: Any) -> Ticket:
        return Ticket(**data)


schema = TicketSchema()
tickets: dict[int, Ticket] = {}  # convstore: convstore.mapping("tickets", load=TicketSchema)


@app.put("/tickets/<int:number>")
def create(number: int) -> Any:
    try:
        tickets[number] = schema.load(request.get_json())
    except ValidationError as error:
        return jsonify(error.messages), 422
    return schema.dump(tickets[number]), 201


@app.post("/tickets/<int:number>/messages")
def reply(number: int) -> Any:
    ticket = tickets.get(number)
    if ticket is None or ticket.status == "closed":
        return jsonify(error="no open ticket"), 404 if ticket is None else 409
    ticket.messages.append({"from": request.json["from"], "text": request.json["text"]})
    ticket.status = "closed" if request.json["text"] == "bye" else "open"
    return schema.dump(ticket)


@app.get("/tickets")
def index() -> Any:
    by_age = sorted(tickets.items(), key=lambda item: item[1].opened, reverse=True)
    return jsonify([{"number": number, "year": ticket.opened.year, **schema.dump(ticket)} for number, ticket in by_age])


REQUESTS = [
    ("GET", "/tickets", None),
    ("PUT", "/tickets/7", {"subject": "login", "opened": "2024-05-01T10:00:00+00:00"}),
    ("PUT", "/tickets/8", {"subject": "", "opened": "soon"}),
    ("PUT", "/tickets/9", {"subject": "bill", "opened": "2023-05-01T10:00:00+00:00", "status": "open"}),
    ("POST", "/tickets/7/messages", {"from": "ann", "text": "help"}),
    ("POST", "/tickets/8/messages", {"from": "ann", "text": "help"}),
    ("POST", "/tickets/7/messages", {"from": "bot", "text": "how?"}),
    ("POST", "/tickets/7/messages", {"from": "ann", "text": "bye"}),
    ("GET", "/tickets", None),
    ("POST", "/tickets/7/messages", {"from": "ann", "text": "one more"}),
    ("POST", "/tickets/9/messages", {"from": "bob", "text": "hello"}),
    ("PUT", "/tickets/9", {"subject": "bill again", "opened": "2025-06-01T10:00:00+02:00"}),
    ("POST", "/tickets/9/messages", {"from": "bob", "text": "second"}),
    ("GET", "/tickets", None),
]
