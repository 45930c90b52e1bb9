-- Reads of the change log, and what consumers say of it. After guard.lua, log.lua.
--
-- KEYS[1]: `base`. ARGV: 1 what is asked, and then
--   'read'   2 after which position  3 how many: { 'done', pos, ld, entries } as XRANGE has them
--   'ack'    2 consumer  3 position, decimal  4 entries that are kept all the same: { 'done' }
--   'forget' 2 consumer: { 'done' }
--   'trim'   2 entries that are kept: { 'done' }
-- Positions of consumers are fields of the hash `lc`, 20 digits.

local base, state = KEYS[1], KEYS[1] .. 's'

-- Drops what every consumer has read, but the newest entries.
local function drop_read(keep)
  local head = tonumber(redis.call('HGET', state, 'pos') or '0')
  local least = head
  for n, value in ipairs(redis.call('HGETALL', base .. 'lc')) do
    if n % 2 == 0 then least = math.min(least, tonumber(value)) end
  end
  local to = math.min(least, head - keep)
  if to > 0 then trim(base, to) end
end

if ARGV[1] == 'read' then
  local after = redis.call('HMGET', state, 'pos', 'ld')
  local entries =
    redis.call('XRANGE', base .. 'l', '(' .. ARGV[2] .. '-0', '+', 'COUNT', ARGV[3])
  return { 'done', after[1] or '0', after[2] or '0', entries }
elseif ARGV[1] == 'ack' then
  local held = redis.call('HGET', base .. 'lc', ARGV[2])
  local position = ('0'):rep(20 - #ARGV[3]) .. ARGV[3]
  if not held or held < position then redis.call('HSET', base .. 'lc', ARGV[2], position) end
  drop_read(tonumber(ARGV[4]))
elseif ARGV[1] == 'forget' then
  redis.call('HDEL', base .. 'lc', ARGV[2])
else
  drop_read(tonumber(ARGV[2]))
end
return { 'done' }
