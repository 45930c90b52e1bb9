-- What stands on a group: 'T' and a token, or 'W' and the mark of a write; nil where there is
-- neither, or a key that this program did not write.
local function standing(key)
  local found = redis.pcall('HGET', key, 't')
  if type(found) == 'string' and #found == 17 then
    local kind = string.byte(found)
    if kind == 84 or kind == 87 then
      return found
    end
  end
  return nil
end
-- Puts it on a group, for some milliseconds, in the place of all that was there.
local function stand(key, what, life)
  redis.call('DEL', key)
  redis.call('HSET', key, 't', what)
  redis.call('PEXPIRE', key, life)
end
