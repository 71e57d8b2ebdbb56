-- _shape: a session without a history has one with its first message; a bare list is a dict with its first field.
-- Needs shape, added (messages) and fields_set.
if shape == "data" and added > 0 or shape == "list" and fields_set then
    shape = "full"
end
