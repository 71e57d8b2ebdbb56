-- _leave: take this attempt out of the line, if it stands there. The one behind it is told where the turn is free. Needs
-- remaining, and what _line.lua gives.
if mine then
    standing = table.concat(line, " ")
    redis.pcall("HSET", session, "waiting", standing)
    if remaining <= 0 then
        --#include _wake.lua
    end
end
