-- What a tenant's state says about a write.
--
--   known(base) -> the state: an array of `dir`, `sv`, `ix`, `fence`, `pos` as they are stored, each
--                  false where it is missing
--   fenced(state, fence) -> whether the write fence keeps out who holds the token `fence`: 20
--                  digits (`state::fence_text`), '' for none
--   behind(base, state, version, mark) -> nil, or the answer that the script has to give before it
--                  writes anything: { STATUS, dir, sv, sp, ix }, missing ones '' (`sv`: '0').
--                  STATUS is `spaces` where the version of the spaces is not `version` (decimal;
--                  '' asks nothing), `unlisted` where the tenant has no token of the directory,
--                  `unindexed` where its indexes are not made as `mark` says ('' asks nothing).
--                  `TenantState::from_answer` reads it.
--   guard(base, fence, version, mark) -> refusal, position: both of the above at once. Give the
--                  refusal as the answer where it is not nil: { 'fenced' } or what `behind` has.
--                  The position is that of the last change, a number; nil with a refusal.
--   step(base, position) stores a position, a number: that of the last change written. Redis
--                  refuses it for lack of memory, as it does every script whose first write needs
--                  some: so do it before all other writes where something is put, and after them
--                  where all that is done is to remove.
--   decimal(number) -> its digits
--
-- A change takes the next position: `append(base, position, op, id, revision)` of log.lua writes it
-- down, `position` a number, and `revision` is `decimal(position) .. '-' .. commit` where `commit`
-- is the first 12 hexadecimal digits of the commit's id.

local function decimal(number)
  return string.format('%d', number)
end

local function known(base)
  return redis.call('HMGET', base .. 's', 'dir', 'sv', 'ix', 'fence', 'pos')
end

local function fenced(state, fence)
  return state[4] and (fence == '' or fence < state[4])
end

local function behind(base, state, version, mark)
  local status
  if version ~= '' and version ~= (state[2] or '0') then
    status = 'spaces'
  elseif not state[1] then
    status = 'unlisted'
  elseif mark ~= '' and mark ~= state[3] then
    status = 'unindexed'
  else
    return nil
  end
  local spaces = redis.call('HGET', base .. 's', 'sp')
  return { status, state[1] or '', state[2] or '0', spaces or '', state[3] or '' }
end

local function guard(base, fence, version, mark)
  local state = known(base)
  if fenced(state, fence) then return { 'fenced' } end
  local refusal = behind(base, state, version, mark)
  if refusal then return refusal end
  return nil, tonumber(state[5] or '0')
end

local function step(base, position)
  redis.call('HSET', base .. 's', 'pos', decimal(position))
end
