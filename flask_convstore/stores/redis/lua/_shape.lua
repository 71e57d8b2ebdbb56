-- _shape: give a session without a history one with its first message, and make a bare list a dict with its first field.
-- Needs shape, added (messages) and fields_set.
if shape == "data" and added > 0 or shape == "list" and fields_set then
    shape = "full"
end
