-- Takes the turn to sweep, if nobody had it for so long.
-- $1 µs
UPDATE {schema}.state SET swept = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
WHERE id = 1 AND swept < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1::bigint
RETURNING swept
