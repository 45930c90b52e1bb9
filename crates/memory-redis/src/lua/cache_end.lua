-- Fresh tokens for groups without another write's mark. KEYS: groups. ARGV: life in milliseconds,
-- the write's own mark, then what to put on each.
-- A full server does not refuse it, for the first step frees memory.
for i, key in ipairs(KEYS) do
  local found = standing(key)
  if not found or string.byte(found) == 84 or found == ARGV[2] then
    stand(key, ARGV[i + 2], ARGV[1])
  end
end
return 1
