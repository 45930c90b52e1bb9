-- How many members a set has, if nothing of the tenant is expired. After nothing.
--
-- KEYS[1]: `base`. ARGV: 1 the set, after `base`; 2 now, 20 digits; 3 '1': the set is of all
-- memories, so that expired ones can be taken off. Answers { 'done', number } or { 'expired' }.

local base = KEYS[1]
-- What is visible until now is no longer visible; ids follow the digits, so the bound is what comes
-- after every id.
local expired = redis.call('ZLEXCOUNT', base .. 'x:e', '-', '(' .. ARGV[2] .. '\255')
local all = redis.call('ZCARD', base .. ARGV[1])
if ARGV[3] == '1' then return { 'done', all - expired } end
if expired > 0 then return { 'expired' } end
return { 'done', all }
