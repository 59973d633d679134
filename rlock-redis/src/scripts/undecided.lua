-- Ends the scripts that get no sets: the entries that need them stay undecided.

for _, entry in ipairs(others) do answers[entry] = UNDECIDED end
return table.concat(answers)
end
