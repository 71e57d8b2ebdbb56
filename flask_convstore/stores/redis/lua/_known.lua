-- _known: leave out the messages from ARGV[first_element] on that the session has by their ids, and their cost. Where it has
-- all of them, and no fields are given (has_fields), this is a repeat of their write: sets all_known, receipt and token.
-- Those from the place tail on give way to them. Moves left_out, their number, and usage_given.
all_known = #ARGV >= first_element and not has_fields
local known_token, known_seq
for at = #ARGV, first_element, -1 do
    local id = string.match(ARGV[at], '^1{"at":%d+,"id":"([^"]+)"')
    local known = id and redis.call("HGET", receipts, "m:" .. id)
    local seq = known and tonumber(string.match(known, "^%d+"))
    local stored = false
    if seq then
        --#include _place.lua
        stored = place and place < tail and redis.call("LINDEX", history, place)
        stored = stored and string.match(stored, '^1{"at":%d+,"id":"([^"]+)"') == id and stored
    end
    if not stored then
        all_known = false
    else
        local line_end = string.find(stored, "\n", 1, true)
        local is_edited = string.find(string.sub(stored, 1, line_end), '"edited_at"', 1, true)
        local body = string.sub(stored, line_end)
        if not is_edited and string.sub(ARGV[at], (string.find(ARGV[at], "\n", 1, true))) ~= body then
            return {"known", nonce, id}
        end
        known_token, known_seq = string.match(known, "^%d+ (.*)$"), seq
        if usage_given ~= "" then
            --#include _tokens_of.lua
            local spent = tokens_of(ARGV[at])
            local input, output = string.match(usage_given, "^(-?%d+) (-?%d+)$")
            usage_given = spent and string.format("%d %d", input - spent[1], output - spent[2]) or usage_given
        end
        left_out = left_out + 1
        table.remove(ARGV, at)
    end
end
if all_known then
    token = known_token
    receipt = redis.call("HGET", receipts, "t:" .. token) or redis.call("HGET", tokens, "t:" .. token)
        or string.format("%d %d %d %d 0 ", version, known_seq, now, version - history_version)
end
