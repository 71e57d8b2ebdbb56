-- _told: tell the owner's index and the aliases of this activity, and move the lifetime of the tombstone. Both are done once a
-- minute, so that the tombstone may go a minute early. Gives due. Needs lasting and what
-- _due.lua needs.
--#include _due.lua
if lasting or #due > 0 or not indexed or lifetime < 600000 then
    --#include _expire_tokens.lua
end
