-- Removes memories that are expired. After memory.lua, guard.lua, log.lua.
--
-- KEYS[1]: `base`. ARGV: 1 now, 20 digits, 2 how many at the most. Answers { 'done', how many, '1'
-- where more are left }.

local base, most = KEYS[1], tonumber(ARGV[2])
local members = redis.call(
  'ZRANGEBYLEX', base .. 'x:e', '-', '(' .. ARGV[1] .. '\255', 'LIMIT', 0, most + 1
)
local position = tonumber(known(base)[5] or '0')
local removed = 0
for n = 1, math.min(most, #members) do
  local id = members[n]:sub(21)
  local row = place(base, id)
  if row and row[4] == members[n]:sub(1, 20) then
    position, removed = position + 1, removed + 1
    unlink(base, id, row)
    append(base, position, 'd', id, '')
  else
    -- No memory has this place: it is in nobody's way any more.
    redis.call('ZREM', base .. 'x:e', members[n])
  end
end
settle()
if removed > 0 then step(base, position) end
return { 'done', removed, #members > most and '1' or '' }
