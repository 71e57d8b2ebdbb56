-- _begin_anew: note that the messages that there were gave way to another conversation. The turn of the one before is lost.
-- Needs the new version.
redis.call("HSET", session, "history_replaced", version)
redis.call("HDEL", session, "turn", "turn_until", "turn_seq", "reply")
reply_in_progress = false
--#include _forget_streams.lua
