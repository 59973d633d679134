-- Rows of leases come last. In a call with several entries none waits for such a row, because another call may hold it
-- while it waits for a row of locks that this call has locked. The client sends that entry again, alone.
FOREACH number IN ARRAY later LOOP
  lease := ids[number];
  resource := names[number];
  UPDATE {schema}.leases AS q SET expires = greatest(q.expires, {now} + ttls[number])
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > {now}
    AND (cardinality(verbs) = 1 OR q.place = (
      SELECT r.place FROM {schema}.leases AS r
      WHERE r.id = lease AND (r.namespace, r.name) IS NOT DISTINCT FROM (space, resource) AND r.expires > {now}
      FOR NO KEY UPDATE SKIP LOCKED
    ))
  RETURNING q.place, q.expires - {now} INTO x, y;
  IF FOUND AND x < 0 THEN
    whats[number] := 1;
    xs[number] := -x;
    ys[number] := y;
    must_flush := true;
  ELSIF FOUND THEN
    whats[number] := 2;
  END IF;
END LOOP;
