-- Values under tokens. KEYS: for each value its group and its wider group. ARGV: for each value
-- what has to stand on the two, the field, and the bytes. Answers 1 for each that is kept.
-- A full server refuses the first HSET: values that fit no more are an error.
local out = {}
for i = 1, #KEYS / 2 do
  local group, under, at = KEYS[2 * i - 1], KEYS[2 * i], 4 * (i - 1)
  local kept = 0
  if standing(under) == ARGV[at + 2] and standing(group) == ARGV[at + 1] then
    redis.call('HSET', group, ARGV[at + 3], ARGV[at + 4])
    kept = 1
  end
  out[i] = kept
end
return out
