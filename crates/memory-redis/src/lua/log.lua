-- The change log: the stream `l`, an entry for each change, under the id POSITION-0.
--
--   append(base, position, op, id, revision)  writes an entry; op is 'p' a put, 'v' vectors alone,
--                                             'd' a delete, 'x' all before it has been dropped
--   trim(base, position)                      drops the entries up to a position
--   reset(base, position)                     drops all entries and writes an 'x' in their place
--
-- `ld` of the state is the greatest position that was dropped, 20 digits. After guard.lua.

local function append(base, position, op, id, revision)
  redis.call('XADD', base .. 'l', decimal(position) .. '-0', 'o', op, 'i', id, 'r', revision)
end

local function trim(base, position)
  redis.call('XTRIM', base .. 'l', 'MINID', decimal(position + 1) .. '-0')
  local dropped = string.format('%020d', position)
  if (redis.call('HGET', base .. 's', 'ld') or '') < dropped then
    redis.call('HSET', base .. 's', 'ld', dropped)
  end
end

local function reset(base, position)
  trim(base, position - 1)
  append(base, position, 'x', '', '')
end
