IF l.id = lease THEN
  is_there := true;
ELSIF l.shared > 0 OR l.waiting > 0 THEN
  SELECT true INTO is_there FROM {schema}.leases AS q
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now;
END IF;
IF is_there THEN
  {standing}
  -- The session that granted it may have been ended while it waited for a replica.
  is_repeated := what = 1;
ELSE
  IF l.capacity <> capacities[i] THEN
    {drop_waiters}
    IF l.expires = 0 AND l.shared = 0 AND l.waiting = 0 THEN
      l.capacity := capacities[i];
    ELSE
      what := 4;
      x := l.capacity;
    END IF;
  END IF;
  IF what IS NOT NULL THEN
    NULL;
  ELSIF l.waiting = 0 AND l.weight + l.shared + weights[i] <= l.capacity THEN
    l.last := greatest(l.last + 1, now);
    IF l.expires = 0 THEN
      l.id := lease;
      l.weight := weights[i];
      l.token := l.last;
      l.since := now;
      l.expires := now + ttls[i];
      l.inbox := our_inbox;
      l.owner := owners[i];
      l.data := datas[i];
    ELSE
      INSERT INTO {schema}.leases (namespace, name, place, id, weight, since, expires, inbox, owner, data)
      VALUES (space, resource, -l.last, lease, weights[i], now, now + ttls[i], our_inbox, owners[i], datas[i]);
      l.soonest := CASE WHEN l.shared > 0 THEN least(l.soonest, now + ttls[i]) ELSE now + ttls[i] END;
      l.shared := l.shared + weights[i];
    END IF;
    must_flush := true;
    what := 1;
    x := l.last;
    y := ttls[i];
  ELSIF verb = 3 THEN
    l.tail := l.tail + 1;
    IF l.waiting = 0 THEN
      l.head := l.tail;
    END IF;
    l.waiting := l.waiting + 1;
    INSERT INTO {schema}.leases (namespace, name, place, id, weight, since, expires, inbox, owner, data)
    VALUES (space, resource, l.tail, lease, weights[i], now, now + ttls[i], our_inbox, owners[i], datas[i]);
    {standing}
  ELSE
    what := 3;
  END IF;
END IF;
