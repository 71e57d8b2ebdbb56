"""flask-convstore: keeps the conversations of a Flask app in Redis or Valkey."""

from .blueprint import problem
from .errors import (
    ConfigurationError,
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    InvalidSessionId,
    NotSerializable,
    ReplyFailed,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    TokenReused,
    TooDeep,
    TooLarge,
    TurnInProgress,
    TurnLost,
    Unstorable,
)
from .extension import ConversationStore, delete_session, get_session, save_session
from .mapping import SessionMapping
from .models import ANY, Health, Message, Page, Receipt, Summary
from .sessions import ListSession, Session
from .turns import Turn

__all__ = [
    "ANY",
    "ConfigurationError",
    "ConflictError",
    "ConversationStore",
    "ConvstoreError",
    "CorruptValue",
    "Health",
    "InvalidInput",
    "InvalidSessionId",
    "ListSession",
    "Message",
    "NotSerializable",
    "Page",
    "Receipt",
    "ReplyFailed",
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
    "Turn",
    "TurnInProgress",
    "TurnLost",
    "Unstorable",
    "delete_session",
    "get_session",
    "problem",
    "save_session",
]
