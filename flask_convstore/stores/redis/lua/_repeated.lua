-- _repeated: answer a known token with its receipt. Only the lifetime moves.
if receipt and gone then
    --#include _propagate.lua
    return {"repeated", nonce, receipt, 0, 0, 0}
end
if receipt then
    --#include _lifetime.lua
    --#include _expire.lua
    return {"repeated", nonce, receipt, created or 0, now, now + lifetime}
end
