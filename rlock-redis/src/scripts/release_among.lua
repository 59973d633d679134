
local library = library_in(ARGV[2])
local errors = {}
for _, entry in ipairs(others) do
  local id, rest = unpack_from(ENTRY, leases, (entry - 1) * SIZE + 1)
  local ran, answer = pcall(function()
    local key = KEYS[entry]
    local r = library.open(key, KEYS[COUNT + entry], id, current(values, written, entry, key))
    return library.release(r, rest * 1000)
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
