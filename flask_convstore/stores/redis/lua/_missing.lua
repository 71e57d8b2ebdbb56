-- _missing: answer that there is no such session. A read that follows in a transaction is called off.
--#include _call_off.lua
return {"missing", nonce}
