-- One memory of a tenant: its hash and its places in the sorted sets.
--
-- `base` is what the tenant's keys begin with: KEYS[1] of every script.
--
-- A place is an array of seven texts, the fields of PLACE in that order: when it occurred, was
-- made, was changed, until when it is visible, then user, agent and session, each false or nil
-- where the memory has none.
--
--   place(base, id)          -> the stored place, or nil where there is no such memory
--   relink(base, id, old, new)  moves it from a place to another; nil on either side is nowhere
--   link(base, id, new)         relink from nowhere
--   unlink(base, id, old)       relink to nowhere, and deletes the hash
--   count(base, old, new)       a memory's number of words (its field `n`) changes from one to the
--                               other, each false or nil for none; unlink counts by itself
--   settle()                    sends what the four above gathered for the sorted sets, and for the
--                               words of all memories (`wl` of the state): call it once, after the
--                               last of them and before the script answers
--
-- So a script over many memories sends few commands. What `place` reads is what is stored, before
-- and after `settle`, for it reads the hash.

-- Until when a memory without an expiry is visible: `fields::ALWAYS`.
local ALWAYS = '18446744073709551615'

local gathered = { ZREM = {}, ZADD = {} }
local counted = { state = false, words = 0 }

local function count(base, old, new)
  counted.state = base .. 's'
  counted.words = counted.words + (tonumber(new or '0') or 0) - (tonumber(old or '0') or 0)
end

local function place(base, id)
  local found = redis.call('HMGET', base .. 'm:' .. id, 'to', 'tc', 'tu', 'e', 'u', 'a', 's')
  if not found[1] then return nil end
  return found
end

local function gather(command, set, member)
  local members = gathered[command][set]
  if not members then
    members = {}
    gathered[command][set] = members
  end
  local size = #members
  if command == 'ZADD' then
    members[size + 1] = '0'
    size = size + 1
  end
  members[size + 1] = member
end

-- Moves a member of one set; each of the two may be false.
local function move(old_set, old, new_set, new)
  if old == new and old_set == new_set then return end
  if old then gather('ZREM', old_set, old) end
  if new then gather('ZADD', new_set, new) end
end

local function relink(base, id, old, new)
  if not old then gather('ZADD', base .. 'x:i', id) end
  if not new then gather('ZREM', base .. 'x:i', id) end
  local was, is = old or {}, new or {}
  local occurred = { was[1] and was[1] .. id, is[1] and is[1] .. id }
  local set = base .. 'x:o'
  move(set, occurred[1], set, occurred[2])
  set = base .. 'x:c'
  move(set, was[2] and was[2] .. id, set, is[2] and is[2] .. id)
  set = base .. 'x:u'
  move(set, was[3] and was[3] .. id, set, is[3] and is[3] .. id)
  set = base .. 'x:e'
  move(
    set, was[4] and was[4] ~= ALWAYS and was[4] .. id,
    set, is[4] and is[4] ~= ALWAYS and is[4] .. id
  )
  for at, name in ipairs({ 'x:U:', 'x:A:', 'x:S:' }) do
    local from, to = was[at + 4], is[at + 4]
    move(
      from and base .. name .. from, from and occurred[1],
      to and base .. name .. to, to and occurred[2]
    )
  end
end

local function link(base, id, new)
  relink(base, id, nil, new)
end

local function unlink(base, id, old)
  local name = base .. 'm:' .. id
  count(base, redis.call('HGET', name, 'n'), nil)
  redis.call('DEL', name)
  relink(base, id, old, nil)
end

local function settle()
  for _, command in ipairs({ 'ZREM', 'ZADD' }) do
    for set, members in pairs(gathered[command]) do
      local size = #members
      -- As many as `unpack` takes without fail, and pairs of score and member stay together.
      for from = 1, size, 4000 do
        redis.call(command, set, unpack(members, from, math.min(from + 3999, size)))
      end
    end
    gathered[command] = {}
  end
  if counted.words ~= 0 then
    redis.call('HINCRBY', counted.state, 'wl', counted.words)
    counted.words = 0
  end
end
