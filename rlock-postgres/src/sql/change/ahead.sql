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
    -- Of up to sixteen holders the time is exact. Of more it may be too early, as l.soonest: this does not read them all.
    SELECT count(*), min(f.expires) FILTER (WHERE f.expires > now) INTO number, first_seen
    FROM (
      SELECT q.expires FROM {schema}.leases AS q
      WHERE q.namespace = space AND q.name = resource AND q.place < 0 ORDER BY q.place LIMIT 17
    ) AS f;
    y := least(y, CASE WHEN number > 16 THEN l.soonest ELSE first_seen END - now);
  END IF;
  y := coalesce(y, 0);
END IF;
