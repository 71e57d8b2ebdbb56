-- _moved: refuse messages for a conversation that goes on in another session.
if moved_to then
    return {"moved", nonce, moved_to}
end
