-- Keeps or removes vectors of memories in one space. After guard.lua and log.lua.
--
-- KEYS[1]: `base`. ARGV: 1 now, 20 digits, 2 the caller's fence token, 3 the spaces' version, 4 the
-- indexes' mark, 5 the space's field; then of each entry its id, its revision and its vector, or the
-- id and two empty ones to remove. Answers { 'done', '1' or '0', ... }: whether each is kept or was
-- removed; { 'fenced' }, and what `behind` answers.

local base, now, field = KEYS[1], ARGV[1], ARGV[5]

local refusal, position = guard(base, ARGV[2], ARGV[3], ARGV[4])
if refusal then return refusal end

local count = (#ARGV - 5) / 3
local stored, kept = {}, false
for n = 1, count do
  local at = 3 + n * 3
  local row = redis.call('HMGET', base .. 'm:' .. ARGV[at], 'r', 'e')
  if ARGV[at + 1] ~= '' then
    stored[n] = row[1] == ARGV[at + 1] and row[2] and now < row[2] and row[1]
    kept = kept or stored[n]
  else
    stored[n] = row[1]
  end
end
-- The first write of all: what follows is not refused for lack of memory.
if kept then step(base, position + count) end

local answer, before = { 'done' }, position
for n = 1, count do
  local at, done = 3 + n * 3, '0'
  local name = base .. 'm:' .. ARGV[at]
  if stored[n] then
    if ARGV[at + 1] ~= '' then
      redis.call('HSET', name, field, ARGV[at + 2])
      done = '1'
    elseif redis.call('HDEL', name, field) == 1 then
      done = '1'
    end
  end
  if done == '1' then
    position = position + 1
    append(base, position, 'v', ARGV[at], stored[n])
  end
  answer[n + 1] = done
end
if kept or position > before then step(base, position) end
return answer
