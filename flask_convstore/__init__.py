"""flask-convstore: keeps the conversations of a Flask app in Redis or Valkey."""

from .app.bound import BoundStore, OpenStore
from .domain.figures import Figures, Minute, PlaceFigures
from .domain.messages import Message, Usage
from .domain.parts import Part
from .domain.results import Health, Lease, Page, Receipt, Summary
from .domain.types import ANY
from .errors import (
    ChangesDropped,
    ConfigurationError,
    ConflictError,
    ConvstoreError,
    CorruptValue,
    CrossOrigin,
    Forbidden,
    InvalidInput,
    InvalidSessionId,
    MessageIdReused,
    MessageNotFound,
    NothingKnown,
    NothingToReplace,
    NotSerializable,
    OwnerRequired,
    ReplyFailed,
    ReplyInterrupted,
    ReplyStalled,
    ReplyTooLong,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    TokenReused,
    TooDeep,
    TooLarge,
    TooManySessions,
    TooManyTurns,
    TooSlow,
    TurnInProgress,
    TurnLost,
    Unstorable,
)
from .extension import ConversationStore
from .http.problems import problem
from .mapping.mapping import SessionMapping
from .operations.replies import TurnEnded
from .operations.turns import Turn
from .sessions.session import ListSession, Session
from .shortcuts import (
    clear_conversation,
    delete_session,
    get_conversation,
    get_session,
    open_store,
    save_message,
    save_session,
)
from .telemetry import log_lines

log_lines.install()

__version__ = "0.1.0.dev0"

__all__ = [
    "ANY",
    "BoundStore",
    "ChangesDropped",
    "ConfigurationError",
    "ConflictError",
    "ConversationStore",
    "ConvstoreError",
    "CorruptValue",
    "CrossOrigin",
    "Figures",
    "Forbidden",
    "Health",
    "InvalidInput",
    "InvalidSessionId",
    "Lease",
    "ListSession",
    "Message",
    "MessageIdReused",
    "MessageNotFound",
    "Minute",
    "NotSerializable",
    "NothingKnown",
    "NothingToReplace",
    "OpenStore",
    "OwnerRequired",
    "Page",
    "Part",
    "PlaceFigures",
    "Receipt",
    "ReplyFailed",
    "ReplyInterrupted",
    "ReplyStalled",
    "ReplyTooLong",
    "Session",
    "SessionExists",
    "SessionMapping",
    "SessionMoved",
    "SessionNotFound",
    "StoreError",
    "StoreMisconfigured",
    "StoreUnavailable",
    "Summary",
    "TokenReused",
    "TooDeep",
    "TooLarge",
    "TooManySessions",
    "TooManyTurns",
    "TooSlow",
    "Turn",
    "TurnEnded",
    "TurnInProgress",
    "TurnLost",
    "Unstorable",
    "Usage",
    "clear_conversation",
    "delete_session",
    "get_conversation",
    "get_session",
    "open_store",
    "problem",
    "save_message",
    "save_session",
]
