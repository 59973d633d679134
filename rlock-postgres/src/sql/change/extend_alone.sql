-- The sole holder is in this row. Each other lease has its own row, and its renewal touches no other.
UPDATE {schema}.locks AS k SET expires = greatest(k.expires, now + ttls[i])
WHERE k.namespace = space AND k.name = resource AND k.id = lease AND k.expires > {now}
RETURNING k.token, k.expires - now INTO x, y;
IF FOUND THEN
  what := 1;
  must_flush := true;
ELSE
  SELECT * INTO w FROM {schema}.leases AS q
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now;
  IF FOUND AND w.place < 0 THEN
    what := 0;
    later := later || i;
  ELSIF FOUND THEN
    SELECT * INTO l FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource;
    {ahead}
    {stale}
    IF expired = 0 AND NOT is_stale THEN
      what := 0;
      later := later || i;
    END IF;
  END IF;
END IF;
