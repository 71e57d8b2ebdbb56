-- _next_seq: give next_seq, the seq of the next message. Needs first, count and gaps: "" or "<seqs in all> <from>-<to> ...".
local next_seq = first + count + (string.match(gaps, "^%d+") or 0)
