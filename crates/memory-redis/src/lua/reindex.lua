-- Writes the fields of some memories that only the query engine reads. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 what `ib` must be, 2 what it becomes ('' for none); then of each memory
-- its id, its revision, the number of arguments that follow and so many fields and values. Fields of
-- the engine that are not among them are removed. A memory that has another revision by now is left
-- alone: whoever wrote it wrote them. Answers { 'done' } or { 'other' }.

local base = KEYS[1]
local state = base .. 's'

if (redis.call('HGET', state, 'ib') or '') ~= ARGV[1] then return { 'other' } end

local kept = { w = true, n = true, z = true, an = true }
local from = 3
while ARGV[from] do
  local name, last = base .. 'm:' .. ARGV[from], from + 2 + tonumber(ARGV[from + 2])
  if redis.call('HGET', name, 'r') == ARGV[from + 1] then
    local new, gone = {}, {}
    for field = from + 3, last, 2 do new[ARGV[field]] = true end
    for _, field in ipairs(redis.call('HKEYS', name)) do
      if (kept[field] or field:sub(1, 2) == 'm:') and not new[field] then
        gone[#gone + 1] = field
      end
    end
    local before = tonumber(redis.call('HGET', name, 'n') or '0')
    if #gone > 0 then redis.call('HDEL', name, unpack(gone)) end
    if last > from + 2 then redis.call('HSET', name, unpack(ARGV, from + 3, last)) end
    local after = tonumber(redis.call('HGET', name, 'n') or '0')
    if after ~= before then redis.call('HINCRBY', state, 'wl', after - before) end
  end
  from = last + 1
end
if ARGV[2] == '' then
  redis.call('HDEL', state, 'ib')
else
  redis.call('HSET', state, 'ib', ARGV[2])
end
return { 'done' }
