-- A commit of one memory that must not be there yet, which is what most commits are: what commit.lua
-- does with it, in fewer steps.
--
-- KEYS[1]: `base`. ARGV: 1 the first 12 hexadecimal digits of the commit's id, 2 the spaces' version
-- ('' for any), 3 the indexes' mark, 4 the id, and from 5 on the fields and values of a put as
-- commit.lua has them.
--
-- Answers { 'done', position, revision, '0' }, or { 'long' } where there is something under the id, a
-- fence, or anything of the tenant that the sender does not know: nothing was written, and
-- commit.lua says what is the matter.

local call, base, id, last = redis.call, KEYS[1], ARGV[4], #ARGV
local memory = base .. 'm:' .. id
if call('EXISTS', memory) ~= 0 then return { 'long' } end
local name, version, mark = base .. 's', ARGV[2], ARGV[3]
local state = call('HMGET', name, 'dir', 'sv', 'ix', 'fence', 'pos', 'wl')
if
  not state[1] or state[4]
  or (version ~= '' and version ~= (state[2] or '0'))
  or (mark ~= '' and mark ~= state[3])
then
  return { 'long' }
end

-- Both numbers are whole and below 2^53.
local position = string.format('%d', (state[5] or 0) + 1)
local revision = position .. '-' .. ARGV[1]
if mark == '' then
  call('HSET', name, 'pos', position)
else
  call('HSET', name, 'pos', position, 'wl', string.format('%d', (state[6] or 0) + ARGV[last]))
end
call('HSET', memory, 'r', revision, unpack(ARGV, 5, last))

local occurred, set = ARGV[6] .. id, base .. 'x:'
call('ZADD', set .. 'i', '0', id)
call('ZADD', set .. 'o', '0', occurred)
call('ZADD', set .. 'c', '0', ARGV[8] .. id)
call('ZADD', set .. 'u', '0', ARGV[10] .. id)
-- `fields::ALWAYS`
if ARGV[12] ~= '18446744073709551615' then call('ZADD', set .. 'e', '0', ARGV[12] .. id) end
local field = 13
if ARGV[field] == 'u' then
  call('ZADD', set .. 'U:' .. ARGV[field + 1], '0', occurred)
  field = field + 2
end
if ARGV[field] == 'a' then
  call('ZADD', set .. 'A:' .. ARGV[field + 1], '0', occurred)
  field = field + 2
end
if ARGV[field] == 's' then call('ZADD', set .. 'S:' .. ARGV[field + 1], '0', occurred) end
call('XADD', base .. 'l', position .. '-0', 'o', 'p', 'i', id, 'r', revision)
return { 'done', position, revision, '0' }
