-- _merge_fields: check changes of data fields. There are three arguments for each, from first_field to first_element - 1:
-- name, the JSON text that the writer had loaded ("" none, "*" any), the new one ("" removes). A new session collides with
-- nothing. Moves data_after (bytes), fields_set, removes, key_is_set and key_is_gone (by key, the key of the history).
-- alike_collides: a text, true, false, null or nothing that two writers made the same of one value is a collision too.
for at = first_field, first_element - 1, 3 do
    local name, loaded, value = ARGV[at], ARGV[at + 1], ARGV[at + 2]
    local stored = exists and redis.call("HGET", session, "d:" .. name) or ""
    -- The same number, array or object may hide two changes: both may have counted, or appended.
    local may_be_alike = stored == value and not (alike_collides and loaded ~= "") and not string.find(stored, "^[-%d%[{]")
    if exists and loaded ~= "*" and stored ~= loaded and not may_be_alike then
        return {"conflict", nonce, version, "d:" .. name}
    end
    data_after = data_after - (stored ~= "" and #name + #stored or 0) + (value ~= "" and #name + #value or 0)
    fields_set, removes = fields_set or value ~= "", removes or value == ""
    if name == key then
        key_is_set, key_is_gone = value ~= "", value == ""
    end
end
