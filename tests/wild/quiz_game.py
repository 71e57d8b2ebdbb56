"""A quiz: try and KeyError, counters, nested state, a leaderboard over all."""

from typing import Any

from flask import Flask, jsonify, request

app = Flask(__name__)
QUESTIONS = [("2 + 2", "4"), ("capital of France", "Paris"), ("H2O", "water")]
games: dict[str, Any] = dict()  # noqa: C408  # convstore: convstore.sessions


@app.post("/games/<player>")
def start(player: str) -> Any:
    if player in games:
        return jsonify(error="already playing"), 409
    games[player] = {"count": 0, "score": 0.0, "answers": {}, "log": [], "streak": {"now": 0, "best": 0}}
    return jsonify(question=QUESTIONS[0][0]), 201


@app.post("/games/<player>/answer")
def answer(player: str) -> Any:
    try:
        game = games[player]
    except KeyError:
        return jsonify(error="start first"), 404
    question, right = QUESTIONS[games[player]["count"] % len(QUESTIONS)]
    is_right = request.json["answer"] == right
    games[player]["count"] += 1
    games[player]["score"] += 1.5 if is_right else -0.5
    game["streak"]["now"] = game["streak"]["now"] + 1 if is_right else 0
    game["streak"]["best"] = max(game["streak"].values())
    game["answers"].setdefault(question, []).append(is_right)
    game["log"].insert(0, [question, request.json["answer"]])
    game["log"] = game["log"][:3]
    return jsonify(game)


@app.get("/leaderboard")
def leaderboard() -> Any:
    ranked = sorted(games.items(), key=lambda item: (-item[1]["score"], item[0]))
    best = max((game["streak"]["best"] for game in games.values()), default=0)
    return jsonify(players=len(games), ranked=[[player, game["score"]] for player, game in ranked], best=best)


@app.delete("/games/<player>")
def leave(player: str) -> Any:
    try:
        return jsonify(games.pop(player))
    except KeyError as error:
        return jsonify(error=f"{error} does not play"), 404


REQUESTS = [
    ("GET", "/leaderboard", None),
    ("POST", "/games/ann/answer", {"answer": "4"}),
    ("POST", "/games/ann", None),
    ("POST", "/games/ann", None),
    ("POST", "/games/ann/answer", {"answer": "4"}),
    ("POST", "/games/bob", None),
    ("POST", "/games/bob/answer", {"answer": "5"}),
    ("POST", "/games/ann/answer", {"answer": "Paris"}),
    ("POST", "/games/ann/answer", {}),
    ("GET", "/leaderboard", None),
    ("POST", "/games/ann/answer", {"answer": "wine"}),
    ("POST", "/games/ann/answer", {"answer": "4"}),
    ("POST", "/games/bob/answer", {"answer": "Paris"}),
    ("GET", "/leaderboard", None),
    ("DELETE", "/games/ann", None),
    ("DELETE", "/games/ann", None),
    ("POST", "/games/ann/answer", {"answer": "4"}),
    ("POST", "/games/ann", None),
    ("GET", "/leaderboard", None),
]
