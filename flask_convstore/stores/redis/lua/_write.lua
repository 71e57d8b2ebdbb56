-- _write: refuse a guest who may only read, and every guest where the write is the owner's only (owners_only).
if shared and (owners_only or shared ~= "writer") then
    return {"forbidden", nonce}
end
