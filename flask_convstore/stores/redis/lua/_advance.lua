-- _advance: move first over the drop oldest messages, and over the gaps behind them.
if gaps == "" then
    first = first + drop
elseif drop > 0 then
    local left, total = drop, string.match(gaps, "^%d+")
    local at = #total + 1
    while true do
        local _, stop, from, to = string.find(gaps, "^ (%d+)%-(%d+)", at)
        if not from or left < from - first then
            break
        end
        left, total = left - (from - first), total - (to - from + 1)
        first, at = to + 1, stop + 1
    end
    first, gaps = first + left, at > #gaps and "" or string.format("%d%s", total, string.sub(gaps, at))
end
