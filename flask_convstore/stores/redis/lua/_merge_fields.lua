-- _merge_fields: check changes of data fields. There are three arguments for each, from first_field to first_element - 1:
-- name, the JSON text that the writer had loaded ("" none, "*" any), the new one ("" removes). A new session collides with
-- nothing. Moves data_after (bytes), fields_set, key_is_set and key_is_gone (by key, the key of the history).
for at = first_field, first_element - 1, 3 do
    local name, loaded, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local stored = exists and redis.call("HGET", session, "d:" .. name) or ""
    -- A text, true, false, null or nothing that two writers made the same is no collision. The same number, array or
    -- object may hide two changes: both may have counted, or appended.
    if exists and loaded ~= "*" and stored ~= loaded and (stored ~= value or string.find(stored, "^[-%d%[{]")) then
        return {"conflict", nonce, version, "d:" .. name}
    end
    data_after = data_after - (stored ~= "" and #name + #stored or 0) + (value ~= "" and #name + #value or 0)
    fields_set = fields_set or value ~= ""
    if name == key then
        key_is_set, key_is_gone = value ~= "", value == ""
    end
end
