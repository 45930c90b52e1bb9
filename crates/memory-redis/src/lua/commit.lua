-- A commit: everything is checked, then everything is written. After memory.lua, guard.lua, log.lua.
--
-- KEYS[1]: `base`. ARGV:
--    1 now, 20 digits           2 the commit's id, 16 bytes   3 its first 12 hexadecimal digits
--    4 '1': sent before         5 the caller's fence token    6 the spaces' version, '' for any
--    7 the indexes' mark        8 '1': its vectors were refused, so that it must not happen
--    9 idempotency key or ''   10 its digest, 32 bytes       11 until when it stands, 20 digits
--   12 the users whose memories are put, one a line
--   13... each write: what it is: 'p' a put, 'k' a put that keeps the vectors of the same content,
--         'd' a delete; the id; '' or '-' (must be absent) or '=' and a revision; and of puts the
--         number of the arguments that follow and so many fields and values. The first are `to`,
--         `tc`, `tu`, `e`, then of `u`, `a`, `s` and `ch` those that there are; where the indexes
--         have a mark the last is `n`.
--
-- Answers:
--   { 'done', position, revision, existed, ... }  two for each write: '' after a delete, '0' or '1'
--   { 'own', position, revision, existed, ... }   some of it is an earlier attempt's work
--   { 'replayed', lines }      what stands under the key; '' where what it names was erased
--   { 'other' }                the key stands for another request
--   { 'refused' }              nothing of it has happened, and its vectors were refused
--   { 'exists', place }, { 'missing', place }, { 'revision', place }, { 'covered', place }: which
--                              write's precondition fails, from 0 on
--   { 'corrupt', place }       what is stored under a write's id is no memory
--   { 'fenced' }, and what `behind` answers
--
-- An answer under a key is the hash `k:KEY`: `d` digest, `x` until when it stands, `a` its lines, `us`
-- the users whose memories it names, one a line. Lines: the version 1, the position, then of each
-- write id, revision or an empty line, and 0 or 1. `x:k` has `x` .. KEY of each of them.

local base, now, commit, tail = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local resend, key = ARGV[4] == '1', ARGV[9]
local memories = base .. 'm:'

-- Some more than a day, for the server's clock need not be the callers'.
local KEPT_SECONDS = 2 * 24 * 3600

if key ~= '' then
  local kept = redis.call('HMGET', base .. 'k:' .. key, 'd', 'x', 'a')
  if kept[2] and now < kept[2] then
    if kept[1] ~= ARGV[10] then return { 'other' } end
    return { 'replayed', kept[3] or '' }
  end
end

local state = known(base)
if fenced(state, ARGV[5]) then return { 'fenced' } end

-- The writes: where each begins, and what is stored under its id. The first seven are its place.
local at, rows, happened = {}, {}, false
local from = 13
while ARGV[from] do
  local row = redis.call(
    'HMGET', memories .. ARGV[from + 1], 'to', 'tc', 'tu', 'e', 'u', 'a', 's', 'r', 'k', 'ch',
    'n'
  )
  local n = #rows + 1
  if not row[1] then
    row = false
  elseif not (row[4] and row[8]) then
    return { 'corrupt', n - 1 }
  end
  at[n], rows[n] = from, row
  if ARGV[from] == 'd' then
    from = from + 3
  else
    -- A commit happens whole: where one of its puts is found, all of it has happened.
    if resend and row and row[9] == commit then happened = true end
    from = from + 4 + tonumber(ARGV[from + 3])
  end
end
local writes = #rows

if not happened then
  if ARGV[8] == '1' then return { 'refused' } end
  -- Vectors come before preconditions, and what they were checked against may be old.
  if ARGV[6] ~= '' and ARGV[6] ~= (state[2] or '0') then
    return behind(base, state, ARGV[6], '')
  end
end

-- Of each write: the revision that an earlier attempt gave it ('' of a delete), or false.
local done, existed, answer, own = {}, {}, {}, false
local puts, changes = 0, 0
for n = 1, writes do
  local row, from = rows[n], at[n]
  local what, wanted = ARGV[from], ARGV[from + 2]
  local visible = row and now < row[4]
  local kind, mine = wanted:sub(1, 1), nil
  if happened then
    if what == 'd' and not visible then
      mine = ''
    elseif what ~= 'd' and row and row[9] == commit then
      mine = row[8]
    else
      return { 'covered', n - 1 }
    end
  elseif kind == '=' and not visible then
    if not (resend and what == 'd') then return { 'missing', n - 1 } end
    mine = ''
  elseif kind == '-' and visible or kind == '=' and wanted:sub(2) ~= row[8] then
    if resend then return { 'covered', n - 1 } end
    return { kind == '-' and 'exists' or 'revision', n - 1 }
  end
  -- Of its own work it tells what the precondition does: there was a revision.
  existed[n] = (mine and kind == '=' or not mine and visible) and '1' or '0'
  done[n] = mine or false
  if mine then
    own = true
  elseif what ~= 'd' then
    puts, changes = puts + 1, changes + 1
  elseif row then
    changes = changes + 1
  end
end

if not happened then
  local refusal = behind(base, state, ARGV[6], ARGV[7])
  if refusal then return refusal end
end

local position = tonumber(state[5] or '0')
-- The first write of all: what follows is not refused for lack of memory.
if puts > 0 then step(base, position + changes) end

-- Removes the fields of a memory that the new ones do not replace, but no vector.
local function prune(name, from, to)
  local new = {}
  for field = from, to, 2 do new[ARGV[field]] = true end
  local gone = {}
  for _, field in ipairs(redis.call('HKEYS', name)) do
    if not new[field] and field:sub(1, 2) ~= 'v:' then gone[#gone + 1] = field end
  end
  if #gone > 0 then redis.call('HDEL', name, unpack(gone)) end
end

answer[1] = own and 'own' or 'done'
for n = 1, writes do
  local row, from, revision = rows[n], at[n], done[n]
  local what, id = ARGV[from], ARGV[from + 1]
  if revision then
    -- An earlier attempt's work.
  elseif what == 'd' then
    revision = ''
    if row then
      position = position + 1
      unlink(base, id, row)
      append(base, position, 'd', id, '')
    end
  else
    position = position + 1
    revision = decimal(position) .. '-' .. tail
    local name, first, last = memories .. id, from + 4, from + 3 + tonumber(ARGV[from + 3])
    local new = { ARGV[first + 1], ARGV[first + 3], ARGV[first + 5], ARGV[first + 7] }
    local field = first + 8
    for part, letter in ipairs({ 'u', 'a', 's' }) do
      new[part + 4] = false
      if ARGV[field] == letter then
        new[part + 4] = ARGV[field + 1]
        field = field + 2
      end
    end
    if row then
      if what == 'k' and row[10] == ARGV[field + 1] then
        prune(name, first, last)
      else
        redis.call('DEL', name)
      end
    end
    redis.call('HSET', name, 'r', revision, unpack(ARGV, first, last))
    if ARGV[7] ~= '' or row and row[11] then
      count(base, row and row[11], ARGV[7] ~= '' and ARGV[last])
    end
    relink(base, id, row, new)
    append(base, position, 'p', id, revision)
  end
  answer[2 * n + 1] = revision
  answer[2 * n + 2] = existed[n]
end
settle()
answer[2] = decimal(position)

if key ~= '' then
  local kept, set = base .. 'k:' .. key, base .. 'x:k'
  local lines = { '1', answer[2] }
  for n = 1, writes do
    lines[3 * n] = ARGV[at[n] + 1]
    lines[3 * n + 1] = answer[2 * n + 1]
    lines[3 * n + 2] = existed[n]
  end
  local old = redis.call('HGET', kept, 'x')
  if old then redis.call('ZREM', set, old .. key) end
  redis.call(
    'HSET', kept, 'd', ARGV[10], 'x', ARGV[11], 'a', table.concat(lines, '\n'), 'us', ARGV[12]
  )
  redis.call('EXPIRE', kept, KEPT_SECONDS)
  redis.call('ZADD', set, '0', ARGV[11] .. key)
  -- Two of those whose time is over go with each new one, so that they become fewer.
  for _, member in ipairs(redis.call('ZRANGEBYLEX', set, '-', '(' .. now, 'LIMIT', 0, 2)) do
    redis.call('ZREM', set, member)
    local name = base .. 'k:' .. member:sub(21)
    if redis.call('HGET', name, 'x') == member:sub(1, 20) then redis.call('DEL', name) end
  end
end
if puts == 0 and changes > 0 then step(base, position) end
return answer
