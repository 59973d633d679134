-- The sole holder is in the row; other leases have one of their own, and touch no other.
UPDATE {schema}.locks AS k SET expires = greatest(k.expires, now + ttls[i])
WHERE k.namespace = space AND k.name = resource AND k.id = lease AND k.expires > {now}
RETURNING k.token, k.expires - now INTO x, y;
IF FOUND THEN
  what := 1;
  must_flush := true;
ELSE
  SELECT * INTO w FROM {schema}.leases AS q
  WHERE q.id = lease AND q.namespace = space AND q.name = resource AND q.expires > now;
  IF FOUND AND w.place < 0 THEN
    what := 0;
    later := later || i;
  ELSIF FOUND THEN
    SELECT * INTO l FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource;
    {ahead}
    IF expired = 0 AND number = 0 THEN
      -- It is the first. If what has expired left room for it, the row of locks has to change.
      SELECT coalesce(sum(q.weight), 0) INTO number FROM {schema}.leases AS q
      WHERE l.shared > 0 AND q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires > now;
      IF l.expires > now THEN
        number := number + l.weight;
      END IF;
      IF number + w.weight <= l.capacity THEN
        expired := 1;
      END IF;
    END IF;
    IF expired = 0 THEN
      what := 0;
      later := later || i;
    END IF;
  END IF;
END IF;
