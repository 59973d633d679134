-- is_stale: an expired lease may block a waiter.
is_stale := l.waiting > 0 AND (l.expires > 0 AND l.expires <= now OR l.shared > 0 AND l.soonest <= now);
IF l.waiting > 0 AND NOT is_stale THEN
  is_stale := coalesce((
    SELECT q.expires <= now FROM {schema}.leases AS q
    WHERE q.namespace = space AND q.name = resource AND q.place >= l.head ORDER BY q.place LIMIT 1
  ), false);
END IF;
