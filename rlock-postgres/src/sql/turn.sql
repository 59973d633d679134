-- Takes the turn to sweep, if no client has had it for this time.
-- $1 µs
UPDATE {schema}.state SET swept = {now}
WHERE id = 1 AND swept < {now} - $1::bigint
RETURNING swept
