-- Tokens for groups without one. KEYS: groups. ARGV: life in milliseconds, then what to put on
-- each. Answers what stands on each.
-- A full server refuses the first HSET, and nothing is removed before it but foreign keys.
local out = {}
for i, key in ipairs(KEYS) do
  local found = standing(key)
  if not found then
    found = ARGV[i + 1]
    if redis.call('EXISTS', key) == 1 then
      redis.call('DEL', key)
    end
    redis.call('HSET', key, 't', found)
    redis.call('PEXPIRE', key, ARGV[1])
  end
  out[i] = found
end
return out
