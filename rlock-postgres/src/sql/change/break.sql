SELECT count(*), inboxes || array_agg(t.inbox), messages || array_agg('b ' || replace(t.id::text, '-', ''))
INTO x, inboxes, messages
FROM (
  SELECT l.inbox, l.id WHERE l.id IS NOT NULL AND l.expires > now
  UNION ALL
  SELECT q.inbox, q.id FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.id IS NOT NULL AND q.expires > now
) AS t;
DELETE FROM {schema}.leases AS q WHERE q.namespace = space AND q.name = resource AND q.place < 0;
l.expires := 0;
l.shared := 0;
must_flush := true;
has_mail := true;
