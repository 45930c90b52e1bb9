-- The spaces of a tenant, by compare and swap. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 the version that they must have, 2 the version that they get, 3 the
-- spaces as JSON, 4... the ids of those named. Ids that were named before and no longer are go into
-- the set `vg`; whoever names one of them anew removes its old vectors first. Answers { 'done' },
-- { 'other' } where the version is another, { 'left', id } where vectors of a named one are left.

local base, state = KEYS[1], KEYS[1] .. 's'

if (redis.call('HGET', state, 'sv') or '0') ~= ARGV[1] then return { 'other' } end
local named = {}
for n = 4, #ARGV do
  named[ARGV[n]] = true
  if redis.call('SISMEMBER', base .. 'vg', ARGV[n]) == 1 then return { 'left', ARGV[n] } end
end
redis.call('HSET', state, 'sv', ARGV[2], 'sp', ARGV[3])
for _, id in ipairs(redis.call('SMEMBERS', base .. 'vn')) do
  if not named[id] then
    redis.call('SREM', base .. 'vn', id)
    redis.call('SADD', base .. 'vg', id)
  end
end
for id in pairs(named) do redis.call('SADD', base .. 'vn', id) end
return { 'done' }
