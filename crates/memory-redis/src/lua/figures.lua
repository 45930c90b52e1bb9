-- Looks at memories one after the other. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 the bound after which it goes on in `x:i`, 2 how many, 3 the field of a
-- vector or '', 4 '1': checks the sorted sets too. Answers { 'done', the id to go on after ('' at
-- the end), kind, when it occurred, until when it is visible, '1' where it has the vector, the sets
-- that do not have it, ... }. A memory that is missing, or has lost a field that every memory has, has `m:` among its sets.

local base, most = KEYS[1], tonumber(ARGV[2])
local ids = redis.call('ZRANGEBYLEX', base .. 'x:i', ARGV[1], '+', 'LIMIT', 0, most)
local answer = { 'done', #ids == most and ids[most] or '' }
local ALWAYS = '18446744073709551615'

for _, id in ipairs(ids) do
  local name = base .. 'm:' .. id
  local row = redis.call('HMGET', name, 'kd', 'to', 'e', 'tc', 'tu', 'u', 'a', 's')
  local lacks = {}
  if ARGV[4] == '1' and row[2] and row[3] and row[4] and row[5] then
    local sets = { 'x:o', row[2], 'x:c', row[4], 'x:u', row[5] }
    if row[3] ~= ALWAYS then sets[#sets + 1] = 'x:e'; sets[#sets + 1] = row[3] end
    for n, set in ipairs({ 'x:U:', 'x:A:', 'x:S:' }) do
      if row[n + 5] then sets[#sets + 1] = set .. row[n + 5]; sets[#sets + 1] = row[2] end
    end
    for n = 1, #sets, 2 do
      if not redis.call('ZSCORE', base .. sets[n], sets[n + 1] .. id) then
        lacks[#lacks + 1] = sets[n]:sub(1, 3)
      end
    end
  end
  if not (row[1] and row[2] and row[3] and row[4] and row[5]) then lacks[#lacks + 1] = 'm:' end
  local has = ARGV[3] ~= '' and redis.call('HEXISTS', name, ARGV[3]) == 1
  answer[#answer + 1] = row[1] or ''
  answer[#answer + 1] = row[2] or ''
  answer[#answer + 1] = row[3] or ''
  answer[#answer + 1] = has and '1' or ''
  answer[#answer + 1] = table.concat(lacks, ' ')
end
return answer
