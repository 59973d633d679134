
local library = library_in(ARGV[2])
local errors = {}
for _, entry in ipairs(others) do
  local at = (entry - 1) * SIZE + 1
  local id, rest = sub(leases, at, at + 15), unpack_from('<d', leases, at + 16) * 1000
  local ran, answer = pcall(function()
    local key = KEYS[2 * entry - 1]
    local r = library.open(key, KEYS[2 * entry], id, current(values, written, entry, key))
    return library.release(r, rest)
  end)
  if not ran then
    table.insert(errors, text_of(answer))
    answer = 'f'
  end
  answers[entry] = answer
end
local letters = table.concat(answers)
if #errors > 0 then return { letters, unpack(errors) } end
return letters
end
