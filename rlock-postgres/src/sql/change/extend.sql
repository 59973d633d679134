IF l.id = lease AND l.expires > now THEN
  l.expires := greatest(l.expires, now + ttls[i]);
  must_flush := true;
ELSE
  UPDATE {schema}.leases AS q SET expires = greatest(q.expires, now + ttls[i])
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now
  RETURNING q.place INTO number;
  IF FOUND AND number < 0 THEN
    must_flush := true;
  END IF;
END IF;
