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
    SessionNotFound,
    StoreError,
    StoreMisconfigured,
    StoreUnavailable,
    TokenReused,
    TooDeep,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from .extension import ConversationStore, delete_session, get_session, save_session
from .models import ANY, Health, Message, Receipt
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
    "Receipt",
    "ReplyFailed",
    "Session",
    "SessionExists",
    "SessionNotFound",
    "StoreError",
    "StoreMisconfigured",
    "StoreUnavailable",
    "TokenReused",
    "TooDeep",
    "TooLarge",
    "Turn",
    "TurnInProgress",
    "TurnLost",
    "delete_session",
    "get_session",
    "problem",
    "save_session",
]
