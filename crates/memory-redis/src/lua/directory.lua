-- The list of tenants. After nothing.
--
-- KEYS: 1 the hash of tokens by tenant, 2 the sorted set of tenants. ARGV: 1 what is asked, and then
--   'add'    2 tenant  3 token
--   'agree'  2 tenant  3 token  4 the token that it becomes, if it is still the first or is missing
--   'remove' 2 tenant  3 token: removes the entry if it still has the token

local tenant, token = ARGV[2], ARGV[3]
local is = redis.call('HGET', KEYS[1], tenant)
if ARGV[1] == 'remove' then
  if is == token then
    redis.call('HDEL', KEYS[1], tenant)
    redis.call('ZREM', KEYS[2], tenant)
  end
elseif ARGV[1] == 'add' or not is or is == token then
  redis.call('HSET', KEYS[1], tenant, ARGV[1] == 'add' and token or ARGV[4])
  redis.call('ZADD', KEYS[2], '0', tenant)
end
return { 'done' }
