-- The list of tenants. After nothing.
--
-- KEYS: 1 the hash of tokens by tenant, 2 the sorted set of tenants. ARGV: 1 what is asked, and then
--   'add'    2 tenant  3 token
--   'agree'  2 tenant  3 token  4 the token that it becomes, if it is still the first
--   'remove' 2 tenant  3 token: removes the entry if it still has the token

local tenant, token = ARGV[2], ARGV[3]
if ARGV[1] == 'add' then
  redis.call('HSET', KEYS[1], tenant, token)
  redis.call('ZADD', KEYS[2], '0', tenant)
elseif redis.call('HGET', KEYS[1], tenant) == token then
  if ARGV[1] == 'agree' then
    redis.call('HSET', KEYS[1], tenant, ARGV[4])
  else
    redis.call('HDEL', KEYS[1], tenant)
    redis.call('ZREM', KEYS[2], tenant)
  end
end
return { 'done' }
