-- _write: refuse who may only read, and, where the script has said that this is the owner's (owners_only), whoever shares it.
if shared and (owners_only or shared ~= "writer") then
    return {"forbidden", nonce}
end
