-- Leases and the write fence. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 what is asked, and then
--   'acquire' 2 name  3 now  4 the end, both 20 digits: { 'granted', token } or { 'held' }
--   'end'     2 name  3 now  4 the end  5 token: { 'done' } where it is held under the token, else
--             { 'ended' }
--   'fence'   2 the fence, 20 digits or '' for none  3 the token shown, 20 digits or '': { 'done' }
--             or { 'newer' } where a fence with a newer token stands
-- A lease is the hash `q:NAME`: `t` token, `x` its end. `lt` of the state is the last token of all.

local base, state = KEYS[1], KEYS[1] .. 's'

if ARGV[1] == 'fence' then
  local standing = redis.call('HGET', state, 'fence')
  if standing and ARGV[3] ~= '' and ARGV[3] < standing then return { 'newer' } end
  if ARGV[2] == '' then
    redis.call('HDEL', state, 'fence')
  else
    redis.call('HSET', state, 'fence', ARGV[2])
  end
  return { 'done' }
end

local name = base .. 'q:' .. ARGV[2]
local held = redis.call('HMGET', name, 't', 'x')
local is_held = held[1] and held[2] and ARGV[3] < held[2]
if ARGV[1] == 'acquire' then
  if is_held then return { 'held' } end
  local token = redis.call('HINCRBY', state, 'lt', 1)
  redis.call('HSET', name, 't', token, 'x', ARGV[4])
  return { 'granted', token }
end
if not is_held or held[1] ~= ARGV[5] then return { 'ended' } end
redis.call('HSET', name, 'x', ARGV[4])
return { 'done' }
