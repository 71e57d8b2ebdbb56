-- _write: refuse who may only read.
if shared and shared ~= "writer" then
    return {"forbidden", nonce}
end
