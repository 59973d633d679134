-- The resource is free: one write.
UPDATE {schema}.locks AS k SET
  last = greatest(k.last + 1, now), capacity = capacities[i], id = lease, weight = weights[i],
  token = greatest(k.last + 1, now), since = now, expires = now + ttls[i], inbox = our_inbox, owner = owners[i],
  data = datas[i]
WHERE k.namespace = space AND k.name = resource AND k.expires <= now AND k.shared = 0 AND k.waiting = 0
RETURNING k.token INTO x;
IF FOUND THEN
  what := 1;
ELSE
  SELECT * INTO l FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource;
  IF NOT FOUND THEN
    SELECT s.made, s.floor INTO made_at, lowest FROM {schema}.state AS s WHERE s.id = 1;
    -- A clock that was set back does not restart the grace.
    IF now >= made_at AND now < made_at + grace THEN
      what := 11;
      x := made_at + grace - now;
    ELSE
      INSERT INTO {schema}.locks (
        namespace, name, last, capacity, id, weight, token, since, expires, inbox, owner, data, shared, waiting, head, tail,
        ended_at
      ) VALUES (
        space, resource, greatest(now, lowest + 1), capacities[i], lease, weights[i], greatest(now, lowest + 1), now,
        now + ttls[i], our_inbox, owners[i], datas[i], 0, 0, 1, 0, 0
      ) ON CONFLICT DO NOTHING RETURNING token INTO x;
      IF FOUND THEN
        what := 1;
      END IF;
    END IF;
  ELSIF verb = 4 AND l.capacity = capacities[i] AND l.id IS DISTINCT FROM lease
    AND (l.shared = 0 AND l.waiting = 0 OR NOT EXISTS (
      SELECT FROM {schema}.leases AS q
      WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource)
    ))
  THEN
    -- Refuse without a write, if leases leave no room, none of them has expired, and no waiter is due for a grant.
    number := CASE WHEN l.expires > now THEN l.weight ELSE 0 END;
    {stale}
    IF number + l.shared + weights[i] > l.capacity AND (l.shared = 0 OR l.soonest > now) AND NOT is_stale THEN
      what := 3;
    END IF;
  END IF;
END IF;
IF what = 1 THEN
  y := ttls[i];
  must_flush := true;
END IF;
