-- Ids of visible memories without a vector in a space, in the order of their bytes. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 now, 20 digits, 2 the spaces' version, 3 the space's field, 4 where ids
-- begin, as a range of members does, 5 how many are wanted, 6 how many memories are looked at.
-- Answers { 'done', position, last, id, ... }: the position of the last change, the last id that was
-- looked at, '' at the end; or { 'spaces', dir, sv, sp, ix } where the version is another.

local base, now = KEYS[1], ARGV[1]

local s = redis.call('HMGET', base .. 's', 'dir', 'sv', 'sp', 'ix', 'pos')
if ARGV[2] ~= (s[2] or '0') then
  return { 'spaces', s[1] or '', s[2] or '0', s[3] or '', s[4] or '' }
end
local most = tonumber(ARGV[6])
local ids = redis.call('ZRANGEBYLEX', base .. 'x:i', ARGV[4], '+', 'LIMIT', 0, most)
local answer, wanted, last = { 'done', s[5] or '0', '' }, tonumber(ARGV[5]), ''
for _, id in ipairs(ids) do
  local name = base .. 'm:' .. id
  local until_ = redis.call('HGET', name, 'e')
  if until_ and now < until_ and redis.call('HEXISTS', name, ARGV[3]) == 0 then
    answer[#answer + 1] = id
  end
  last = id
  if #answer == wanted + 3 then break end
end
if #ids == most or #answer == wanted + 3 then answer[3] = last end
return answer
