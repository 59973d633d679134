-- Drops expired leases that are in the way, and grants the waiters in front that fit.
IF l.expires <= now THEN
  l.id := NULL;
  l.weight := 0;
  l.token := 0;
  l.expires := 0;
  l.inbox := NULL;
  l.owner := NULL;
  l.data := NULL;
END IF;
IF verb = 6 THEN
  {drop_waiters}
END IF;
-- Renewals only postpone the end of a lease, so l.soonest may be too early, but never too late.
IF l.shared > 0 AND l.soonest <= now THEN
  DELETE FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires <= now;
  SELECT coalesce(sum(q.weight), 0), coalesce(min(q.expires), 0) INTO l.shared, l.soonest FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place < 0;
END IF;
WHILE l.waiting > 0 LOOP
  SELECT * INTO w FROM {schema}.leases AS q
  WHERE q.namespace = space AND q.name = resource AND q.place >= l.head
  ORDER BY q.place LIMIT 1;
  IF NOT FOUND THEN
    l.waiting := 0;
  ELSIF w.expires <= now THEN
    -- Many may have expired together.
    WITH dropped AS (
      DELETE FROM {schema}.leases AS q
      WHERE q.namespace = space AND q.name = resource AND q.expires <= now AND q.place >= w.place AND q.place < coalesce((
        SELECT r.place FROM {schema}.leases AS r
        WHERE r.namespace = space AND r.name = resource AND r.place > w.place AND r.expires > now
        ORDER BY r.place LIMIT 1
      ), l.tail + 1)
      RETURNING 1
    ) SELECT l.waiting - count(*) INTO l.waiting FROM dropped;
  ELSE
    l.head := w.place;
    EXIT WHEN l.weight + l.shared + w.weight > l.capacity;
    -- A renewal may be under way: this waits for it, and reads the time that it has set.
    IF l.expires = 0 THEN
      DELETE FROM {schema}.leases AS q WHERE q.namespace = space AND q.name = resource AND q.place = w.place
      RETURNING q.* INTO w;
    ELSE
      UPDATE {schema}.leases AS q SET place = -greatest(l.last + 1, now), since = now
      WHERE q.namespace = space AND q.name = resource AND q.place = w.place;
    END IF;
    CONTINUE WHEN NOT FOUND;
    l.last := greatest(l.last + 1, now);
    l.waiting := l.waiting - 1;
    l.head := w.place + 1;
    IF l.expires = 0 THEN
      l.id := w.id;
      l.weight := w.weight;
      l.token := l.last;
      l.since := now;
      l.expires := w.expires;
      l.inbox := w.inbox;
      l.owner := w.owner;
      l.data := w.data;
    ELSE
      l.soonest := CASE WHEN l.shared > 0 THEN least(l.soonest, w.expires) ELSE w.expires END;
      l.shared := l.shared + w.weight;
    END IF;
    IF verb = 2 THEN
      l.ended := lease;
      l.ended_at := now;
    END IF;
    must_flush := true;
    inboxes := inboxes || w.inbox;
    has_mail := has_mail OR starts_with(w.inbox, 'mail');
    messages := messages || ('g ' || replace(w.id::text, '-', '') || ' ' || l.last);
    EXIT WHEN l.weight + l.shared >= l.capacity;
  END IF;
END LOOP;
IF verb >= 5 THEN
  what := 8;
END IF;
