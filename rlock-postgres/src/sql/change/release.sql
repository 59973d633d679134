what := 7;
IF l.id = lease THEN
  IF l.expires > now THEN
    what := 6;
  END IF;
  -- A rest replaces the holder.
  l.id := NULL;
  l.inbox := NULL;
  l.owner := NULL;
  l.data := NULL;
  l.expires := CASE WHEN what = 6 AND ttls[i] > 0 THEN now + ttls[i] ELSE 0 END;
ELSE
  SELECT * INTO w FROM {schema}.leases AS q
  WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now
  FOR NO KEY UPDATE;
  IF FOUND THEN
    what := 6;
    IF w.place < 0 AND ttls[i] > 0 THEN
      UPDATE {schema}.leases AS q SET id = NULL, expires = now + ttls[i], inbox = NULL, owner = NULL, data = NULL
      WHERE q.namespace = space AND q.name = resource AND q.place = w.place;
      l.soonest := least(l.soonest, now + ttls[i]);
    ELSE
      DELETE FROM {schema}.leases AS q WHERE q.namespace = space AND q.name = resource AND q.place = w.place;
      IF w.place < 0 THEN
        l.shared := l.shared - w.weight;
      ELSE
        l.waiting := l.waiting - 1;
      END IF;
    END IF;
  END IF;
END IF;
IF what = 6 AND ttls[i] > 0 THEN
  must_flush := true;
ELSIF was.ended = lease THEN
  -- The request is a repetition. The first answer may have been lost, and its notifications with it. This call itself
  -- notifies those that it grants.
  is_repeated := true;
  has_mail := true;
  SELECT inboxes || array_agg(t.inbox), messages || array_agg('g ' || replace(t.id::text, '-', '') || ' ' || t.token)
  INTO inboxes, messages
  FROM (
    SELECT l.inbox, l.id, l.token WHERE l.id IS NOT NULL AND l.since = was.ended_at
    UNION ALL
    SELECT q.inbox, q.id, -q.place FROM {schema}.leases AS q
    WHERE l.shared > 0 AND q.namespace = space AND q.name = resource AND q.place < 0 AND q.since = was.ended_at
      AND q.id IS NOT NULL
  ) AS t;
END IF;
