-- Runs operations on any number of leases in one round trip: the operations, one commit, then the notifications. The
-- entries come in the order of their names, so that two calls never deadlock.
--
-- A resource is a row of locks, which contains its sole holder. Each further holder, each rest of a share and each
-- waiter has a row of leases. Only the expiry of such a row is changed without a lock on the row of locks. A row of
-- leases is found by its id: no index serves IS NOT DISTINCT FROM. With = instead, the planner may read all leases of
-- the resource by the primary key, as in a table without statistics.
--
-- is_pooled: a pooler reassigns sessions after each transaction, so that each transaction needs the settings.
-- verbs: 1 extend, 2 release, 3 claim and queue, 4 claim or be refused, 5 break the held leases, 6 drop and grant.
-- ids, ttls (µs; for a release its rest), weights, capacities, owners, datas: one element each, or none if not needed.
-- grace: the age that the tables need before the first claim of a name is granted, in µs.
-- deadline: the time from which on the client no longer waits for the answer.
-- Returns the result of each entry, with two numbers, as answers.rs reads them, or no entries if it undid all because
-- the deadline had passed. clock: the server's time then.
CREATE OR REPLACE PROCEDURE {schema}.change_{procedures}(
  is_pooled boolean, space text, grace bigint, deadline bigint, our_inbox text, verbs bigint[], names text[], ids uuid[],
  ttls bigint[], weights bigint[], capacities bigint[], owners text[], datas bytea[],
  INOUT whats bigint[], INOUT xs bigint[], INOUT ys bigint[], INOUT is_untold boolean, INOUT clock bigint
) LANGUAGE plpgsql AS $change$
DECLARE
  now bigint;
  verb integer;
  resource pg_catalog.text;
  lease pg_catalog.uuid;
  l {schema}.locks;
  was {schema}.locks;
  w {schema}.leases;
  what integer;
  x bigint;
  y bigint;
  number bigint;
  expired bigint;
  first_seen bigint;
  made_at bigint;
  lowest bigint;
  is_there boolean;
  is_stale boolean;
  is_repeated boolean; -- the first request may have reached no replica: a write waits for one
  must_flush boolean := false;
  has_mail boolean := false; -- an inbox may be an address in the table mail
  later integer[] := '{}';
  inboxes pg_catalog.text[] := '{}';
  messages pg_catalog.text[] := '{}';
BEGIN
  {begin}
  FOR i IN 1 .. cardinality(verbs) LOOP
    verb := verbs[i];
    resource := names[i];
    lease := ids[i];
    what := NULL;
    x := 0;
    y := 0;
    is_there := false;
    is_repeated := false;
    now := {now};
    IF verb >= 3 AND verb <= 4 THEN
      {claim_free}
    ELSIF verb = 2 THEN
      {release_alone}
    ELSIF verb = 1 THEN
      {extend_alone}
    END IF;
    IF what IS NULL THEN
      x := 0;
      y := 0;
      SELECT * INTO l FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource FOR NO KEY UPDATE;
      IF NOT FOUND AND verb = 2 THEN
        {await_insert}
      END IF;
      IF NOT FOUND THEN
        what := CASE verb WHEN 1 THEN 5 WHEN 2 THEN 7 WHEN 3 THEN 0 WHEN 4 THEN 0 ELSE 8 END;
      ELSE
        now := {now}; -- this may have waited
        was := l;
        -- A live holder of the whole capacity leaves no waiter its turn.
        IF (verb = 2 OR verb = 5) AND (l.expires <= now OR l.weight < l.capacity) THEN
          {stale}
          IF is_stale THEN
            -- A waiter whose turn has come holds, though no client has seen it yet.
            {settle}
          END IF;
        END IF;
        IF verb = 1 THEN
          {extend}
        ELSIF verb = 2 THEN
          {release}
        ELSIF verb = 5 THEN
          {break}
        END IF;
        {settle}
        IF verb >= 3 AND verb <= 4 THEN
          {claim}
        ELSIF verb = 1 THEN
          {standing}
        END IF;
        must_flush := must_flush OR is_repeated;
        IF is_repeated OR l IS DISTINCT FROM was THEN
          UPDATE {schema}.locks AS k SET
            last = l.last, capacity = l.capacity, id = l.id, weight = l.weight, token = l.token, since = l.since,
            expires = l.expires, inbox = l.inbox, owner = l.owner, data = l.data, shared = l.shared,
            soonest = l.soonest, waiting = l.waiting, head = l.head, tail = l.tail, ended = l.ended,
            ended_at = l.ended_at
          WHERE k.namespace = space AND k.name = resource;
        END IF;
      END IF;
    END IF;
    whats[i] := what;
    xs[i] := coalesce(x, 0);
    ys[i] := coalesce(y, 0);
  END LOOP;
  {extend_later}
  clock := {now};
  IF clock > deadline THEN
    -- The client has sent its next request. This one could undo that: bring back a lease that it has released.
    whats := '{}';
    ROLLBACK;
    RETURN;
  END IF;
  IF has_mail THEN
    INSERT INTO {schema}.mail (inbox, message, sent)
    SELECT t.inbox, t.message, now FROM unnest(inboxes, messages) AS t (inbox, message) WHERE starts_with(t.inbox, 'mail');
  END IF;
  -- If a crash loses the end of a lease, a place in the queue or its renewal, others wait a TTL longer at most.
  IF NOT must_flush THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
  IF cardinality(inboxes) > 0 THEN
    -- The server serializes the commits of transactions that notify. From here on nothing has to be flushed.
    COMMIT;
    IF is_pooled THEN
      {settings}
    END IF;
    IF pg_notification_queue_usage() < 0.9 THEN
      PERFORM pg_notify(t.inbox, t.message)
      FROM unnest(inboxes, messages) AS t (inbox, message) WHERE starts_with(t.inbox, 'rlock');
    ELSE
      is_untold := true;
    END IF;
  END IF;
END
$change$;
