-- Reads memories in the order of a sorted set, a bounded number of them. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 the set, after `base`; 2 and 3 the bounds as ZRANGEBYLEX has them, lower
-- first; 4 '1': from the upper end; 5 how many members; 6 how many bytes of a member come before
-- the id; 7... the fields. Answers { 'done', the member to go on after ('' at the end), id, row,
-- ... }. A member whose memory is missing has a row of nils. It ends early where much was read.

local base = KEYS[1]

-- So much of an answer is made at once: it lies in the server's memory twice.
local MOST_BYTES = 8 * 1024 * 1024

local count, head = tonumber(ARGV[5]), tonumber(ARGV[6])
local members
if ARGV[4] == '1' then
  members = redis.call('ZREVRANGEBYLEX', base .. ARGV[1], ARGV[3], ARGV[2], 'LIMIT', 0, count)
else
  members = redis.call('ZRANGEBYLEX', base .. ARGV[1], ARGV[2], ARGV[3], 'LIMIT', 0, count)
end
local memories, bytes = base .. 'm:', 0
local answer = { 'done', '' }
for n, member in ipairs(members) do
  local id = member:sub(head + 1)
  local row = redis.call('HMGET', memories .. id, unpack(ARGV, 7))
  answer[#answer + 1] = id
  answer[#answer + 1] = row
  for _, value in ipairs(row) do
    if value then bytes = bytes + #value end
  end
  if n == count or bytes > MOST_BYTES then
    answer[2] = member
    break
  end
end
return answer
