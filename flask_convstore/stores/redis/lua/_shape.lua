-- _shape: give a session without a history one with its first message, and make a bare list a dict with its first field.
-- Needs shape, added (messages), fields_set and key.
if shape == "data" and added > 0 or shape == "list" and fields_set then
    shape = "full:" .. key
end
