-- x: the number of waiters in front of w, exact up to sixteen, and above that including some that have left. y: the
-- time that it is blocked for.
SELECT count(*), count(*) FILTER (WHERE f.expires <= now), min(f.place), (array_agg(f.expires))[1] - now
INTO number, expired, first_seen, y
FROM (
  SELECT q.place, q.expires FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.place < w.place
  ORDER BY q.place DESC LIMIT 16
) AS f;
x := number;
IF number = 16 THEN
  x := x + first_seen - l.head;
ELSIF number = 0 THEN
  y := CASE WHEN l.expires > now THEN l.expires - now END;
  IF l.shared > 0 THEN
    y := least(y, (
      SELECT min(q.expires) - now FROM {schema}.leases AS q
      WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires > now
    ));
  END IF;
  y := coalesce(y, 0);
END IF;
