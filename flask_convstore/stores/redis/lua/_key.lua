-- _key: find the key under which a dict has its history, and which no data field can have. Needs shape. Gives key.
local key = string.match(shape, "^full:(.+)$") or HISTORY_KEY
local key_is_set, key_is_gone, key_is_misused = false, false, false -- by the fields of this write
