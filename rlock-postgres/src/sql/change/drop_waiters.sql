WITH dropped AS (
  DELETE FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now RETURNING 1
) SELECT l.waiting - count(*) INTO l.waiting FROM dropped;
