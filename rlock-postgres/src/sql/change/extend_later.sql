-- Rows of leases come last. Of several entries none waits for such a row, as the locked resource may be behind others: the
-- client asks again about that one alone.
FOREACH number IN ARRAY later LOOP
  lease := ids[number];
  resource := names[number];
  UPDATE {schema}.leases AS q SET expires = greatest(q.expires, {now} + ttls[number])
  WHERE q.namespace = space AND q.name = resource AND q.id = lease AND q.expires > {now}
    AND (cardinality(verbs) = 1 OR q.place = (
      SELECT r.place FROM {schema}.leases AS r
      WHERE r.id = lease AND r.namespace = space AND r.name = resource AND r.expires > {now}
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
