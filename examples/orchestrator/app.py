"""An orchestrating agent: it plans, researches and writes, a step for each call, and keeps its tasks in a store.

The store is its own, with another prefix and another lifetime than the chats that the same app may have. Any worker can take
the next step, even after a restart. Two workers can never take the same step, because a step is a turn.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException

from flask_convstore import ConversationStore, ConvstoreError, problem

DAY = 86_400

IN_PART = "I cannot see the task for the moment. Ask me again in a while."

FACTS = {
    "flask": "Flask is a small framework for the web.",
    "redis": "Redis keeps data in memory and serves them to many processes.",
    "valkey": "Valkey is the free continuation of Redis.",
}
"""Findings of the research. A real agent asks a search engine, or a model."""


class Orchestrator:
    """Works on tasks. A task is a session with ``topic``, ``plan``, ``results``, ``complete`` and a history."""

    def __init__(self) -> None:
        self.store = ConversationStore(name="orchestrator", config_prefix="ORCHESTRATOR")
        self.steps = {"plan": self.plan, "research": self.research, "write": self.write}

    def start(self, topic: str) -> str:
        """Begin a new task and give its id."""
        task_id = str(uuid4())
        task = {"topic": topic, "plan": [], "results": {}, "complete": False, "history": []}
        self.store.save_session(task_id, task)
        return task_id

    def step(self, task_id: str) -> dict[str, Any]:
        """Take the next step and give the task after it."""
        with self.store.turn(task_id, {"role": "user", "content": "Go on."}) as turn:
            task = turn.data
            if turn.partial and "topic" not in task:  # Redis is away, and has the task
                turn.reply(IN_PART)
                return {"plan": [], "results": {}, "complete": False, "partial": True}
            left = [name for name in self.steps if name not in task["results"]]
            if left:
                task["results"][left[0]] = self.steps[left[0]](task)
                task["complete"] = len(left) == 1
            turn.reply(f"Done: {left[0]}." if left else "Nothing is left to do.")
        return task

    def plan(self, task: dict[str, Any]) -> list[str]:
        words = sorted(set(re.findall(r"\w+", task["topic"].lower())) & FACTS.keys())
        task["plan"] = [f"What is {word}?" for word in words]
        return list(task["plan"])

    def research(self, task: dict[str, Any]) -> dict[str, str]:
        return {question: FACTS[question[len("What is ") : -1]] for question in task["plan"]}

    def write(self, task: dict[str, Any]) -> str:
        return f"{task['topic']}: {' '.join(task['results']['research'].values()) or 'I know nothing about it.'}"

    def health(self) -> dict[str, Any]:
        """Report the health of the agent. While Redis is away, it works on with the journal of its store."""
        store = self.store.health()
        status = "ok" if store.connected else "degraded" if store.can_start else "unavailable"
        return {"status": status, "agent": {"name": "orchestrator", "steps": list(self.steps)}, "store": asdict(store)}


orchestrator = Orchestrator()


def create_app() -> Flask:
    """The application. ``ORCHESTRATOR_URL``, or else ``CONVSTORE_URL``, names the agent's store."""
    app = Flask(__name__)
    url = os.environ.get("ORCHESTRATOR_URL") or os.environ.get("CONVSTORE_URL")
    app.config.update(ORCHESTRATOR_URL=url, ORCHESTRATOR_PREFIX="orchestrator:")
    app.config.update(ORCHESTRATOR_TTL=DAY, ORCHESTRATOR_TTL_COMPLETE=7 * DAY)
    app.config["ORCHESTRATOR_OUTAGE"] = "continue"  # new tasks are worked on also while Redis is away
    orchestrator.store.init_app(app)
    app.register_error_handler(ConvstoreError, problem)
    app.register_error_handler(HTTPException, as_problem)
    app.add_url_rule("/health", view_func=health)
    app.add_url_rule("/tasks", view_func=start, methods=["POST"])
    app.add_url_rule("/tasks/<task_id>", view_func=show)
    app.add_url_rule("/tasks/<task_id>", view_func=forget, methods=["DELETE"])
    app.add_url_rule("/tasks/<task_id>/step", view_func=step, methods=["POST"])
    return app


def health() -> Any:
    report = orchestrator.health()
    return report, 503 if report["status"] == "unavailable" else 200


def start() -> Any:
    body = request.get_json(silent=True)
    topic = body.get("topic") if isinstance(body, dict) else None
    if not isinstance(topic, str) or not topic.strip():
        abort(400, "topic must be a text in a JSON object")
    return {"task_id": orchestrator.start(topic.strip())}, 201


def show(task_id: str) -> Any:
    task = orchestrator.store.get_session(task_id)
    if task is None:
        orchestrator.store.touch(task_id)  # a 503 while Redis is away, since it may have the task
        abort(404, "no such task, or it has expired")
    return {**task, "partial": True} if task.partial else task


def step(task_id: str) -> Any:
    task = orchestrator.step(task_id)
    return {name: task[name] for name in ("plan", "results", "complete", "partial") if name in task}


def forget(task_id: str) -> Any:
    return {"status": "deleted"} if orchestrator.store.delete_session(task_id) else abort(404, "no such task")


def as_problem(error: HTTPException) -> Any:
    """Give the app's own errors the shape of the store's errors (RFC 9457)."""
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, {"Content-Type": "application/problem+json"}
