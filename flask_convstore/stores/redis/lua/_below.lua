-- _below: count the messages with a seq below bound. Gives below. Needs first, count and gaps.
local seq = bound
--#include _skipped.lua
local below = math.max(0, math.min(count, bound - first - skipped))
