-- _moved: refuse what begins or adds messages, where the conversation goes on in another session.
if moved_to then
    return {"moved", nonce, moved_to}
end
