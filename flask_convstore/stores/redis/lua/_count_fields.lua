-- _count_fields: count the bytes of data fields that are set whatever they were. There are two arguments for each, from
-- first_field to last_field: name and JSON text ("" removes). Moves data_after (bytes), fields_set and removes, and
-- by key, the key of the history, key_is_set, key_is_gone and key_is_misused (there is no such field).
for at = first_field, last_field, 2 do
    local name, value = ARGV[at], ARGV[at + 1]
    local stored = redis.call("HSTRLEN", session, "d:" .. name)
    data_after = data_after - (stored > 0 and #name + stored or 0) + (value ~= "" and #name + #value or 0)
    fields_set, removes = fields_set or value ~= "", removes or value == ""
    if name == key then
        key_is_misused, key_is_set, key_is_gone = stored == 0, value ~= "", value == ""
    end
end
