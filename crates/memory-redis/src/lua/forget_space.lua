-- Removes the vectors of a space that is not named from some memories. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 the space's id, 2 the bound after which it goes on, 3 how many. Answers
-- { 'done', the id to go on after, '' at the end }; then the space is no longer among those left.

local base = KEYS[1]

if redis.call('SISMEMBER', base .. 'vn', ARGV[1]) == 1 then return { 'done', '' } end
local ids = redis.call('ZRANGEBYLEX', base .. 'x:i', ARGV[2], '+', 'LIMIT', 0, ARGV[3])
for _, id in ipairs(ids) do redis.call('HDEL', base .. 'm:' .. id, 'v:' .. ARGV[1]) end
if #ids < tonumber(ARGV[3]) then
  redis.call('SREM', base .. 'vg', ARGV[1])
  return { 'done', '' }
end
return { 'done', ids[#ids] }
