-- _advance: move first over the drop oldest messages, and over the gaps behind them.
if gaps == "" then
    first = first + drop
elseif drop > 0 then
    local left = drop
    for from, to in string.gmatch(gaps, "(%d+)%-(%d+)") do
        if left < from - first then
            break
        end
        left = left - (from - first)
        first, gaps = to + 1, string.gsub(gaps, "^%d+%-%d+ ?", "")
    end
    first = first + left
end
