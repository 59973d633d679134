-- The standing of a lease.
IF l.id = lease THEN
  what := 1;
  x := l.token;
  y := l.expires - now;
ELSE
  SELECT * INTO w FROM {schema}.leases AS q
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now;
  IF NOT FOUND THEN
    what := 5;
    x := (l.id IS NOT NULL OR l.shared > 0 AND EXISTS (
      SELECT FROM {schema}.leases AS q
      WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.id IS NOT NULL
    ))::integer;
  ELSIF w.place < 0 THEN
    what := 1;
    x := -w.place;
    y := w.expires - now;
  ELSE
    what := 2;
    {ahead}
    IF expired > 0 THEN
      {drop_waiters}
      {ahead}
    END IF;
  END IF;
END IF;
