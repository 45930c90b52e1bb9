-- Swaps fields of a tenant's state, if they are still what was read. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 '1': only where the tenant has no memories; then of each field its name,
-- what it must be and what it becomes, '' for none. Answers { 'done' }; { 'other' } where one is not
-- what it must be or the tenant is no longer listed; { 'filled' } where there are memories.

local base = KEYS[1]
local state = base .. 's'

if redis.call('HEXISTS', state, 'dir') == 0 then return { 'other' } end
for n = 2, #ARGV, 3 do
  if (redis.call('HGET', state, ARGV[n]) or '') ~= ARGV[n + 1] then return { 'other' } end
end
if ARGV[1] == '1' and redis.call('EXISTS', base .. 'x:i') == 1 then return { 'filled' } end
for n = 2, #ARGV, 3 do
  if ARGV[n + 2] == '' then
    redis.call('HDEL', state, ARGV[n])
  elseif ARGV[n + 2] ~= ARGV[n + 1] then
    redis.call('HSET', state, ARGV[n], ARGV[n + 2])
  end
end
return { 'done' }
