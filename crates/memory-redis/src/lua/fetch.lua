-- Reads memories by id, all of one state.
--
-- KEYS[1]: `base`. ARGV: 1 the spaces' version ('' asks nothing), 2 the number of fields, the fields,
-- the ids. Answers { 'done', row, ... }: for each id the values of the fields, nil each where there
-- is no such memory; fewer rows than ids where they are large: ask for the rest again. Or
-- { 'spaces', dir, sv, sp, ix } where the version is another.

local base = KEYS[1]

-- So much of an answer is made at once: it lies in the server's memory twice.
local MOST_BYTES = 16 * 1024 * 1024

if ARGV[1] ~= '' then
  local s = redis.call('HMGET', base .. 's', 'dir', 'sv', 'sp', 'ix')
  if ARGV[1] ~= (s[2] or '0') then
    return { 'spaces', s[1] or '', s[2] or '0', s[3] or '', s[4] or '' }
  end
end

local last = 2 + tonumber(ARGV[2])
local memories, answer, bytes = base .. 'm:', { 'done' }, 0
for n = last + 1, #ARGV do
  local row = redis.call('HMGET', memories .. ARGV[n], unpack(ARGV, 3, last))
  answer[#answer + 1] = row
  for _, value in ipairs(row) do
    if value then bytes = bytes + #value end
  end
  if bytes > MOST_BYTES then break end
end
return answer
