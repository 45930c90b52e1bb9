-- Parts of an erasure. After memory.lua, guard.lua, log.lua.
--
-- KEYS[1]: `base`. ARGV: 1 what is asked, and then
--   'items'   2... of each memory its id and the revision that it must have. { 'done', removed }.
--             Entries of the change log go with them, for they name ids.
--   'answers' 2 the bound after which it goes on in `x:k`  3 how many  4 the position up to which
--             they were kept, decimal  5 a user, '' for all: { 'done', the member to go on after, ''
--             at the end }. A user's answers lose what they say; a tenant's go.
--   'log'     drops what the change log says: { 'done' }
--   'state'   the rest of a tenant, which is no longer listed unless memories came meanwhile:
--             { 'done', '1' where it is not listed }. A second time it does no harm.

local base, state = KEYS[1], KEYS[1] .. 's'

local function head() return tonumber(redis.call('HGET', state, 'pos') or '0') end

local function drop_log()
  local position = head() + 1
  reset(base, position)
  step(base, position)
end

if ARGV[1] == 'items' then
  local removed = 0
  for n = 2, #ARGV, 2 do
    local id = ARGV[n]
    if redis.call('HGET', base .. 'm:' .. id, 'r') == ARGV[n + 1] then
      unlink(base, id, place(base, id))
      removed = removed + 1
    end
  end
  settle()
  if removed > 0 then drop_log() end
  return { 'done', removed }
elseif ARGV[1] == 'answers' then
  local set, most, last = base .. 'x:k', tonumber(ARGV[3]), tonumber(ARGV[4])
  local members = redis.call('ZRANGEBYLEX', set, ARGV[2], '+', 'LIMIT', 0, most)
  for _, member in ipairs(members) do
    local name = base .. 'k:' .. member:sub(21)
    local kept = redis.call('HMGET', name, 'x', 'a')
    -- The second line of an answer is its position; one that was cleared says nothing.
    local position = tonumber((kept[2] or ''):match('^1\n(%d+)') or '0')
    if position <= last and kept[1] == member:sub(1, 20) then
      if ARGV[5] == '' then
        redis.call('DEL', name)
        redis.call('ZREM', set, member)
      else
        local users = '\n' .. (redis.call('HGET', name, 'us') or '') .. '\n'
        if users:find('\n' .. ARGV[5] .. '\n', 1, true) then
          redis.call('HSET', name, 'a', '', 'us', '')
        end
      end
    end
  end
  return { 'done', #members == most and members[most] or '' }
elseif ARGV[1] == 'log' then
  if redis.call('EXISTS', base .. 'l') == 1 then drop_log() end
  return { 'done' }
end

local version = decimal(tonumber(redis.call('HGET', state, 'sv') or '0') + 1)
for _, id in ipairs(redis.call('SMEMBERS', base .. 'vn')) do
  redis.call('SADD', base .. 'vg', id)
end
redis.call('DEL', base .. 'vn', base .. 'lc')
local stays = { pos = true, ld = true, fence = true, lt = true }
local is_empty = redis.call('EXISTS', base .. 'x:i') == 0
if not is_empty then stays.dir = true end
for _, field in ipairs(redis.call('HKEYS', state)) do
  if not stays[field] then redis.call('HDEL', state, field) end
end
redis.call('HSET', state, 'sv', version)
if is_empty then redis.call('DEL', base .. 'vg') end
return { 'done', is_empty and '1' or '' }
