-- The tables of version 3, and a procedure on them as an older build has it. Newer builds work beside that procedure, so
-- this text stays as it is.
CREATE SCHEMA "rlock";
CREATE TABLE "rlock".locks (
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  last bigint NOT NULL,
  capacity bigint NOT NULL,
  id uuid,
  weight bigint NOT NULL,
  token bigint NOT NULL,
  since bigint NOT NULL,
  expires bigint NOT NULL,
  inbox text,
  owner text,
  data bytea,
  shared bigint NOT NULL,
  soonest bigint NOT NULL DEFAULT 0,
  waiting bigint NOT NULL,
  head bigint NOT NULL,
  tail bigint NOT NULL,
  ended uuid,
  ended_at bigint NOT NULL,
  PRIMARY KEY (namespace, name)
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);
CREATE TABLE "rlock".leases (
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  place bigint NOT NULL,
  id uuid,
  weight bigint NOT NULL,
  since bigint NOT NULL,
  expires bigint NOT NULL,
  inbox text,
  owner text,
  data bytea,
  PRIMARY KEY (namespace, name, place)
) WITH (
  fillfactor = 50,
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);
CREATE TABLE "rlock".mail (
  inbox text COLLATE "C" NOT NULL,
  message text NOT NULL,
  sent bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
CREATE TABLE "rlock".state (
  id smallint PRIMARY KEY CHECK (id = 1),
  version integer NOT NULL,
  made bigint NOT NULL,
  floor bigint NOT NULL,
  swept bigint NOT NULL
);
CREATE INDEX leases_id ON "rlock".leases (id);
CREATE INDEX mail_inbox ON "rlock".mail (inbox);
INSERT INTO "rlock".state (id, version, made, floor, swept) VALUES (1, 3, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 0, 0) ON CONFLICT DO NOTHING;

CREATE PROCEDURE "rlock".change_0( is_pooled boolean, space text, grace bigint, deadline bigint, our_inbox text, verbs
bigint[], names text[], ids uuid[], ttls bigint[], weights bigint[], capacities bigint[], owners text[], datas
bytea[], INOUT whats bigint[], INOUT xs bigint[], INOUT ys bigint[], INOUT is_untold boolean, INOUT clock bigint )
LANGUAGE plpgsql AS $change$ DECLARE now bigint; verb integer; resource pg_catalog.text; lease pg_catalog.uuid; l
"rlock".locks; was "rlock".locks; w "rlock".leases; what integer; x bigint; y bigint; number bigint; expired bigint;
first_seen bigint; made_at bigint; lowest bigint; is_there boolean; is_stale boolean; is_repeated boolean; must_flush
boolean := false; has_mail boolean := false; later integer[] := '{}'; inboxes pg_catalog.text[] := '{}'; messages
pg_catalog.text[] := '{}'; BEGIN IF is_pooled THEN COMMIT; SET TRANSACTION ISOLATION LEVEL READ COMMITTED; PERFORM
pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('enable_seqscan', 'off',
true), pg_catalog.set_config('jit', 'off', true), pg_catalog.set_config('plan_cache_mode', 'force_generic_plan',
true), pg_catalog.set_config('lock_timeout', '500', true); END IF; whats := '{}'; xs := '{}'; ys := '{}'; is_untold :=
false; FOR i IN 1 .. cardinality(verbs) LOOP verb := verbs[i]; resource := names[i]; lease := ids[i]; what := NULL; x
:= 0; y := 0; is_there := false; is_repeated := false; now := (extract(epoch FROM clock_timestamp()) *
1000000)::bigint; IF verb >= 3 AND verb <= 4 THEN UPDATE "rlock".locks AS k SET last = greatest(k.last + 1, now),
capacity = capacities[i], id = lease, weight = weights[i], token = greatest(k.last + 1, now), since = now, expires =
now + ttls[i], inbox = our_inbox, owner = owners[i], data = datas[i] WHERE k.namespace = space AND k.name = resource
AND k.expires <= now AND k.shared = 0 AND k.waiting = 0 RETURNING k.token INTO x; IF FOUND THEN what := 1; ELSE SELECT
* INTO l FROM "rlock".locks AS k WHERE k.namespace = space AND k.name = resource; IF NOT FOUND THEN SELECT s.made,
s.floor INTO made_at, lowest FROM "rlock".state AS s WHERE s.id = 1; IF now >= made_at AND now < made_at + grace THEN
what := 11; x := made_at + grace - now; ELSE INSERT INTO "rlock".locks ( namespace, name, last, capacity, id, weight,
token, since, expires, inbox, owner, data, shared, waiting, head, tail, ended_at ) VALUES ( space, resource,
greatest(now, lowest + 1), capacities[i], lease, weights[i], greatest(now, lowest + 1), now, now + ttls[i], our_inbox,
owners[i], datas[i], 0, 0, 1, 0, 0 ) ON CONFLICT DO NOTHING RETURNING token INTO x; IF FOUND THEN what := 1; END IF;
END IF; ELSIF verb = 4 AND l.capacity = capacities[i] AND l.id IS DISTINCT FROM lease AND (l.shared = 0 AND l.waiting
= 0 OR NOT EXISTS ( SELECT FROM "rlock".leases AS q WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM
(space, resource) )) THEN number := CASE WHEN l.expires > now THEN l.weight ELSE 0 END; is_stale := l.waiting > 0 AND
(l.expires > 0 AND l.expires <= now OR l.shared > 0 AND l.soonest <= now); IF l.waiting > 0 AND NOT is_stale THEN
is_stale := coalesce(( SELECT q.expires <= now FROM "rlock".leases AS q WHERE q.namespace = space AND q.name =
resource AND q.place >= l.head ORDER BY q.place LIMIT 1 ), false); END IF; IF number + l.shared + weights[i] >
l.capacity AND (l.shared = 0 OR l.soonest > now) AND NOT is_stale THEN what := 3; END IF; END IF; END IF; IF what = 1
THEN y := ttls[i]; must_flush := true; END IF; ELSIF verb = 2 THEN IF ttls[i] = 0 THEN UPDATE "rlock".locks AS k SET
id = NULL, weight = 0, token = 0, expires = 0, inbox = NULL, owner = NULL, data = NULL WHERE k.namespace = space AND
k.name = resource AND k.id = lease AND k.waiting = 0 AND k.expires > (extract(epoch FROM clock_timestamp()) *
1000000)::bigint; IF FOUND THEN what := 6; END IF; END IF; ELSIF verb = 1 THEN UPDATE "rlock".locks AS k SET expires =
greatest(k.expires, now + ttls[i]) WHERE k.namespace = space AND k.name = resource AND k.id = lease AND k.expires >
(extract(epoch FROM clock_timestamp()) * 1000000)::bigint RETURNING k.token, k.expires - now INTO x, y; IF FOUND THEN
what := 1; must_flush := true; ELSE SELECT * INTO w FROM "rlock".leases AS q WHERE q.id = lease AND (q.namespace,
q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now; IF FOUND AND w.place < 0 THEN what := 0; later :=
later || i; ELSIF FOUND THEN SELECT * INTO l FROM "rlock".locks AS k WHERE k.namespace = space AND k.name = resource;
SELECT count(*), count(*) FILTER (WHERE f.expires <= now), min(f.place), (array_agg(f.expires))[1] - now INTO number,
expired, first_seen, y FROM ( SELECT q.place, q.expires FROM "rlock".leases AS q WHERE q.namespace = space AND q.name
= resource AND q.place >= l.head AND q.place < w.place ORDER BY q.place DESC LIMIT 16 ) AS f; x := number; IF number =
16 THEN x := x + first_seen - l.head; ELSIF number = 0 THEN y := CASE WHEN l.expires > now THEN l.expires - now END;
IF l.shared > 0 THEN y := least(y, ( SELECT min(q.expires) - now FROM "rlock".leases AS q WHERE q.namespace = space
AND q.name = resource AND q.place < 0 AND q.expires > now )); END IF; y := coalesce(y, 0); END IF; is_stale :=
l.waiting > 0 AND (l.expires > 0 AND l.expires <= now OR l.shared > 0 AND l.soonest <= now); IF l.waiting > 0 AND NOT
is_stale THEN is_stale := coalesce(( SELECT q.expires <= now FROM "rlock".leases AS q WHERE q.namespace = space AND
q.name = resource AND q.place >= l.head ORDER BY q.place LIMIT 1 ), false); END IF; IF expired = 0 AND NOT is_stale
THEN what := 0; later := later || i; END IF; END IF; END IF; END IF; IF what IS NULL THEN x := 0; y := 0; SELECT *
INTO l FROM "rlock".locks AS k WHERE k.namespace = space AND k.name = resource FOR NO KEY UPDATE; IF NOT FOUND AND
verb = 2 THEN INSERT INTO "rlock".locks ( namespace, name, last, capacity, weight, token, since, expires, shared,
waiting, head, tail, ended_at ) VALUES (space, resource, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0) ON CONFLICT DO NOTHING; IF
FOUND THEN DELETE FROM "rlock".locks AS k WHERE k.namespace = space AND k.name = resource; END IF; SELECT * INTO l
FROM "rlock".locks AS k WHERE k.namespace = space AND k.name = resource FOR NO KEY UPDATE; END IF; IF NOT FOUND THEN
what := CASE verb WHEN 1 THEN 5 WHEN 2 THEN 7 WHEN 3 THEN 0 WHEN 4 THEN 0 ELSE 8 END; ELSE now := (extract(epoch FROM
clock_timestamp()) * 1000000)::bigint; was := l; IF (verb = 2 OR verb = 5) AND (l.expires <= now OR l.weight <
l.capacity) THEN is_stale := l.waiting > 0 AND (l.expires > 0 AND l.expires <= now OR l.shared > 0 AND l.soonest <=
now); IF l.waiting > 0 AND NOT is_stale THEN is_stale := coalesce(( SELECT q.expires <= now FROM "rlock".leases AS q
WHERE q.namespace = space AND q.name = resource AND q.place >= l.head ORDER BY q.place LIMIT 1 ), false); END IF; IF
is_stale THEN IF l.expires <= now THEN l.id := NULL; l.weight := 0; l.token := 0; l.expires := 0; l.inbox := NULL;
l.owner := NULL; l.data := NULL; END IF; IF verb = 6 THEN WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now RETURNING 1 ) SELECT l.waiting -
count(*) INTO l.waiting FROM dropped; END IF; IF l.shared > 0 AND l.soonest <= now THEN DELETE FROM "rlock".leases AS
q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires <= now; SELECT coalesce(sum(q.weight),
0), coalesce(min(q.expires), 0) INTO l.shared, l.soonest FROM "rlock".leases AS q WHERE q.namespace = space AND q.name
= resource AND q.place < 0; END IF; WHILE l.waiting > 0 LOOP SELECT * INTO w FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place >= l.head ORDER BY q.place LIMIT 1; IF NOT FOUND THEN l.waiting
:= 0; ELSIF w.expires <= now THEN WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE q.namespace = space AND
q.name = resource AND q.expires <= now AND q.place >= w.place AND q.place < coalesce(( SELECT r.place FROM
"rlock".leases AS r WHERE r.namespace = space AND r.name = resource AND r.place > w.place AND r.expires > now ORDER BY
r.place LIMIT 1 ), l.tail + 1) RETURNING 1 ) SELECT l.waiting - count(*) INTO l.waiting FROM dropped; ELSE l.head :=
w.place; EXIT WHEN l.weight + l.shared + w.weight > l.capacity; IF l.expires = 0 THEN DELETE FROM "rlock".leases AS q
WHERE q.namespace = space AND q.name = resource AND q.place = w.place RETURNING q.* INTO w; ELSE UPDATE "rlock".leases
AS q SET place = -greatest(l.last + 1, now), since = now WHERE q.namespace = space AND q.name = resource AND q.place =
w.place; END IF; CONTINUE WHEN NOT FOUND; l.last := greatest(l.last + 1, now); l.waiting := l.waiting - 1; l.head :=
w.place + 1; IF l.expires = 0 THEN l.id := w.id; l.weight := w.weight; l.token := l.last; l.since := now; l.expires :=
w.expires; l.inbox := w.inbox; l.owner := w.owner; l.data := w.data; ELSE l.soonest := CASE WHEN l.shared > 0 THEN
least(l.soonest, w.expires) ELSE w.expires END; l.shared := l.shared + w.weight; END IF; IF verb = 2 THEN l.ended :=
lease; l.ended_at := now; END IF; must_flush := true; inboxes := inboxes || w.inbox; has_mail := has_mail OR
starts_with(w.inbox, 'mail'); messages := messages || ('g ' || replace(w.id::text, '-', '') || ' ' || l.last); EXIT
WHEN l.weight + l.shared >= l.capacity; END IF; END LOOP; IF verb >= 5 THEN what := 8; END IF; END IF; END IF; IF verb
= 1 THEN IF l.id = lease AND l.expires > now THEN l.expires := greatest(l.expires, now + ttls[i]); must_flush := true;
ELSE UPDATE "rlock".leases AS q SET expires = greatest(q.expires, now + ttls[i]) WHERE q.id = lease AND (q.namespace,
q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now RETURNING q.place INTO number; IF FOUND AND number
< 0 THEN must_flush := true; END IF; END IF; ELSIF verb = 2 THEN what := 7; IF l.id = lease THEN IF l.expires > now
THEN what := 6; END IF; l.id := NULL; l.inbox := NULL; l.owner := NULL; l.data := NULL; l.expires := CASE WHEN what =
6 AND ttls[i] > 0 THEN now + ttls[i] ELSE 0 END; ELSE SELECT * INTO w FROM "rlock".leases AS q WHERE q.id = lease AND
(q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now FOR NO KEY UPDATE; IF FOUND THEN what
:= 6; IF w.place < 0 AND ttls[i] > 0 THEN UPDATE "rlock".leases AS q SET id = NULL, expires = now + ttls[i], inbox =
NULL, owner = NULL, data = NULL WHERE q.namespace = space AND q.name = resource AND q.place = w.place; l.soonest :=
least(l.soonest, now + ttls[i]); ELSE DELETE FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource
AND q.place = w.place; IF w.place < 0 THEN l.shared := l.shared - w.weight; ELSE l.waiting := l.waiting - 1; END IF;
END IF; END IF; END IF; IF what = 6 AND ttls[i] > 0 THEN must_flush := true; ELSIF was.ended = lease THEN is_repeated
:= true; has_mail := true; SELECT inboxes || array_agg(t.inbox), messages || array_agg('g ' || replace(t.id::text,
'-', '') || ' ' || t.token) INTO inboxes, messages FROM ( SELECT l.inbox, l.id, l.token WHERE l.id IS NOT NULL AND
l.since = was.ended_at UNION ALL SELECT q.inbox, q.id, -q.place FROM "rlock".leases AS q WHERE l.shared > 0 AND
q.namespace = space AND q.name = resource AND q.place < 0 AND q.since = was.ended_at AND q.id IS NOT NULL ) AS t; END
IF; ELSIF verb = 5 THEN SELECT count(*), inboxes || array_agg(t.inbox), messages || array_agg('b ' ||
replace(t.id::text, '-', '')) INTO x, inboxes, messages FROM ( SELECT l.inbox, l.id WHERE l.id IS NOT NULL AND
l.expires > now UNION ALL SELECT q.inbox, q.id FROM "rlock".leases AS q WHERE q.namespace = space AND q.name =
resource AND q.place < 0 AND q.id IS NOT NULL AND q.expires > now ) AS t; DELETE FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place < 0; l.expires := 0; l.shared := 0; must_flush := true; has_mail
:= true; END IF; IF l.expires <= now THEN l.id := NULL; l.weight := 0; l.token := 0; l.expires := 0; l.inbox := NULL;
l.owner := NULL; l.data := NULL; END IF; IF verb = 6 THEN WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now RETURNING 1 ) SELECT l.waiting -
count(*) INTO l.waiting FROM dropped; END IF; IF l.shared > 0 AND l.soonest <= now THEN DELETE FROM "rlock".leases AS
q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires <= now; SELECT coalesce(sum(q.weight),
0), coalesce(min(q.expires), 0) INTO l.shared, l.soonest FROM "rlock".leases AS q WHERE q.namespace = space AND q.name
= resource AND q.place < 0; END IF; WHILE l.waiting > 0 LOOP SELECT * INTO w FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place >= l.head ORDER BY q.place LIMIT 1; IF NOT FOUND THEN l.waiting
:= 0; ELSIF w.expires <= now THEN WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE q.namespace = space AND
q.name = resource AND q.expires <= now AND q.place >= w.place AND q.place < coalesce(( SELECT r.place FROM
"rlock".leases AS r WHERE r.namespace = space AND r.name = resource AND r.place > w.place AND r.expires > now ORDER BY
r.place LIMIT 1 ), l.tail + 1) RETURNING 1 ) SELECT l.waiting - count(*) INTO l.waiting FROM dropped; ELSE l.head :=
w.place; EXIT WHEN l.weight + l.shared + w.weight > l.capacity; IF l.expires = 0 THEN DELETE FROM "rlock".leases AS q
WHERE q.namespace = space AND q.name = resource AND q.place = w.place RETURNING q.* INTO w; ELSE UPDATE "rlock".leases
AS q SET place = -greatest(l.last + 1, now), since = now WHERE q.namespace = space AND q.name = resource AND q.place =
w.place; END IF; CONTINUE WHEN NOT FOUND; l.last := greatest(l.last + 1, now); l.waiting := l.waiting - 1; l.head :=
w.place + 1; IF l.expires = 0 THEN l.id := w.id; l.weight := w.weight; l.token := l.last; l.since := now; l.expires :=
w.expires; l.inbox := w.inbox; l.owner := w.owner; l.data := w.data; ELSE l.soonest := CASE WHEN l.shared > 0 THEN
least(l.soonest, w.expires) ELSE w.expires END; l.shared := l.shared + w.weight; END IF; IF verb = 2 THEN l.ended :=
lease; l.ended_at := now; END IF; must_flush := true; inboxes := inboxes || w.inbox; has_mail := has_mail OR
starts_with(w.inbox, 'mail'); messages := messages || ('g ' || replace(w.id::text, '-', '') || ' ' || l.last); EXIT
WHEN l.weight + l.shared >= l.capacity; END IF; END LOOP; IF verb >= 5 THEN what := 8; END IF; IF verb >= 3 AND verb
<= 4 THEN IF l.id = lease THEN is_there := true; ELSIF l.shared > 0 OR l.waiting > 0 THEN SELECT true INTO is_there
FROM "rlock".leases AS q WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND
q.expires > now; END IF; IF is_there THEN IF l.id = lease THEN what := 1; x := l.token; y := l.expires - now; ELSE
SELECT * INTO w FROM "rlock".leases AS q WHERE q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space,
resource) AND q.expires > now; IF NOT FOUND THEN what := 5; x := (l.id IS NOT NULL OR l.shared > 0 AND EXISTS ( SELECT
FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.id IS NOT NULL
))::integer; ELSIF w.place < 0 THEN what := 1; x := -w.place; y := w.expires - now; ELSE what := 2; SELECT count(*),
count(*) FILTER (WHERE f.expires <= now), min(f.place), (array_agg(f.expires))[1] - now INTO number, expired,
first_seen, y FROM ( SELECT q.place, q.expires FROM "rlock".leases AS q WHERE q.namespace = space AND q.name =
resource AND q.place >= l.head AND q.place < w.place ORDER BY q.place DESC LIMIT 16 ) AS f; x := number; IF number =
16 THEN x := x + first_seen - l.head; ELSIF number = 0 THEN y := CASE WHEN l.expires > now THEN l.expires - now END;
IF l.shared > 0 THEN y := least(y, ( SELECT min(q.expires) - now FROM "rlock".leases AS q WHERE q.namespace = space
AND q.name = resource AND q.place < 0 AND q.expires > now )); END IF; y := coalesce(y, 0); END IF; IF expired > 0 THEN
WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >=
l.head AND q.expires <= now RETURNING 1 ) SELECT l.waiting - count(*) INTO l.waiting FROM dropped; SELECT count(*),
count(*) FILTER (WHERE f.expires <= now), min(f.place), (array_agg(f.expires))[1] - now INTO number, expired,
first_seen, y FROM ( SELECT q.place, q.expires FROM "rlock".leases AS q WHERE q.namespace = space AND q.name =
resource AND q.place >= l.head AND q.place < w.place ORDER BY q.place DESC LIMIT 16 ) AS f; x := number; IF number =
16 THEN x := x + first_seen - l.head; ELSIF number = 0 THEN y := CASE WHEN l.expires > now THEN l.expires - now END;
IF l.shared > 0 THEN y := least(y, ( SELECT min(q.expires) - now FROM "rlock".leases AS q WHERE q.namespace = space
AND q.name = resource AND q.place < 0 AND q.expires > now )); END IF; y := coalesce(y, 0); END IF; END IF; END IF; END
IF; is_repeated := what = 1; ELSE IF l.capacity <> capacities[i] THEN WITH dropped AS ( DELETE FROM "rlock".leases AS
q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now RETURNING 1 ) SELECT
l.waiting - count(*) INTO l.waiting FROM dropped; IF l.expires = 0 AND l.shared = 0 AND l.waiting = 0 THEN l.capacity
:= capacities[i]; ELSE what := 4; x := l.capacity; END IF; END IF; IF what IS NOT NULL THEN NULL; ELSIF l.waiting = 0
AND l.weight + l.shared + weights[i] <= l.capacity THEN l.last := greatest(l.last + 1, now); IF l.expires = 0 THEN
l.id := lease; l.weight := weights[i]; l.token := l.last; l.since := now; l.expires := now + ttls[i]; l.inbox :=
our_inbox; l.owner := owners[i]; l.data := datas[i]; ELSE INSERT INTO "rlock".leases (namespace, name, place, id,
weight, since, expires, inbox, owner, data) VALUES (space, resource, -l.last, lease, weights[i], now, now + ttls[i],
our_inbox, owners[i], datas[i]); l.soonest := CASE WHEN l.shared > 0 THEN least(l.soonest, now + ttls[i]) ELSE now +
ttls[i] END; l.shared := l.shared + weights[i]; END IF; must_flush := true; what := 1; x := l.last; y := ttls[i];
ELSIF verb = 3 THEN l.tail := l.tail + 1; IF l.waiting = 0 THEN l.head := l.tail; END IF; l.waiting := l.waiting + 1;
INSERT INTO "rlock".leases (namespace, name, place, id, weight, since, expires, inbox, owner, data) VALUES (space,
resource, l.tail, lease, weights[i], now, now + ttls[i], our_inbox, owners[i], datas[i]); IF l.id = lease THEN what :=
1; x := l.token; y := l.expires - now; ELSE SELECT * INTO w FROM "rlock".leases AS q WHERE q.id = lease AND
(q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now; IF NOT FOUND THEN what := 5; x :=
(l.id IS NOT NULL OR l.shared > 0 AND EXISTS ( SELECT FROM "rlock".leases AS q WHERE q.namespace = space AND q.name =
resource AND q.place < 0 AND q.id IS NOT NULL ))::integer; ELSIF w.place < 0 THEN what := 1; x := -w.place; y :=
w.expires - now; ELSE what := 2; SELECT count(*), count(*) FILTER (WHERE f.expires <= now), min(f.place),
(array_agg(f.expires))[1] - now INTO number, expired, first_seen, y FROM ( SELECT q.place, q.expires FROM
"rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.place < w.place ORDER
BY q.place DESC LIMIT 16 ) AS f; x := number; IF number = 16 THEN x := x + first_seen - l.head; ELSIF number = 0 THEN
y := CASE WHEN l.expires > now THEN l.expires - now END; IF l.shared > 0 THEN y := least(y, ( SELECT min(q.expires) -
now FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires > now ));
END IF; y := coalesce(y, 0); END IF; IF expired > 0 THEN WITH dropped AS ( DELETE FROM "rlock".leases AS q WHERE
q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now RETURNING 1 ) SELECT l.waiting -
count(*) INTO l.waiting FROM dropped; SELECT count(*), count(*) FILTER (WHERE f.expires <= now), min(f.place),
(array_agg(f.expires))[1] - now INTO number, expired, first_seen, y FROM ( SELECT q.place, q.expires FROM
"rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.place < w.place ORDER
BY q.place DESC LIMIT 16 ) AS f; x := number; IF number = 16 THEN x := x + first_seen - l.head; ELSIF number = 0 THEN
y := CASE WHEN l.expires > now THEN l.expires - now END; IF l.shared > 0 THEN y := least(y, ( SELECT min(q.expires) -
now FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND q.expires > now ));
END IF; y := coalesce(y, 0); END IF; END IF; END IF; END IF; ELSE what := 3; END IF; END IF; ELSIF verb = 1 THEN IF
l.id = lease THEN what := 1; x := l.token; y := l.expires - now; ELSE SELECT * INTO w FROM "rlock".leases AS q WHERE
q.id = lease AND (q.namespace, q.name) IS NOT DISTINCT FROM (space, resource) AND q.expires > now; IF NOT FOUND THEN
what := 5; x := (l.id IS NOT NULL OR l.shared > 0 AND EXISTS ( SELECT FROM "rlock".leases AS q WHERE q.namespace =
space AND q.name = resource AND q.place < 0 AND q.id IS NOT NULL ))::integer; ELSIF w.place < 0 THEN what := 1; x :=
-w.place; y := w.expires - now; ELSE what := 2; SELECT count(*), count(*) FILTER (WHERE f.expires <= now),
min(f.place), (array_agg(f.expires))[1] - now INTO number, expired, first_seen, y FROM ( SELECT q.place, q.expires
FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.place < w.place
ORDER BY q.place DESC LIMIT 16 ) AS f; x := number; IF number = 16 THEN x := x + first_seen - l.head; ELSIF number = 0
THEN y := CASE WHEN l.expires > now THEN l.expires - now END; IF l.shared > 0 THEN y := least(y, ( SELECT
min(q.expires) - now FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place < 0 AND
q.expires > now )); END IF; y := coalesce(y, 0); END IF; IF expired > 0 THEN WITH dropped AS ( DELETE FROM
"rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND q.expires <= now
RETURNING 1 ) SELECT l.waiting - count(*) INTO l.waiting FROM dropped; SELECT count(*), count(*) FILTER (WHERE
f.expires <= now), min(f.place), (array_agg(f.expires))[1] - now INTO number, expired, first_seen, y FROM ( SELECT
q.place, q.expires FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND q.place >= l.head AND
q.place < w.place ORDER BY q.place DESC LIMIT 16 ) AS f; x := number; IF number = 16 THEN x := x + first_seen -
l.head; ELSIF number = 0 THEN y := CASE WHEN l.expires > now THEN l.expires - now END; IF l.shared > 0 THEN y :=
least(y, ( SELECT min(q.expires) - now FROM "rlock".leases AS q WHERE q.namespace = space AND q.name = resource AND
q.place < 0 AND q.expires > now )); END IF; y := coalesce(y, 0); END IF; END IF; END IF; END IF; END IF; must_flush :=
must_flush OR is_repeated; IF is_repeated OR l IS DISTINCT FROM was THEN UPDATE "rlock".locks AS k SET last = l.last,
capacity = l.capacity, id = l.id, weight = l.weight, token = l.token, since = l.since, expires = l.expires, inbox =
l.inbox, owner = l.owner, data = l.data, shared = l.shared, soonest = l.soonest, waiting = l.waiting, head = l.head,
tail = l.tail, ended = l.ended, ended_at = l.ended_at WHERE k.namespace = space AND k.name = resource; END IF; END IF;
END IF; whats[i] := what; xs[i] := coalesce(x, 0); ys[i] := coalesce(y, 0); END LOOP; FOREACH number IN ARRAY later
LOOP lease := ids[number]; resource := names[number]; UPDATE "rlock".leases AS q SET expires = greatest(q.expires,
(extract(epoch FROM clock_timestamp()) * 1000000)::bigint + ttls[number]) WHERE q.id = lease AND (q.namespace, q.name)
IS NOT DISTINCT FROM (space, resource) AND q.expires > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AND
(cardinality(verbs) = 1 OR q.place = ( SELECT r.place FROM "rlock".leases AS r WHERE r.id = lease AND (r.namespace,
r.name) IS NOT DISTINCT FROM (space, resource) AND r.expires > (extract(epoch FROM clock_timestamp()) *
1000000)::bigint FOR NO KEY UPDATE SKIP LOCKED )) RETURNING q.place, q.expires - (extract(epoch FROM
clock_timestamp()) * 1000000)::bigint INTO x, y; IF FOUND AND x < 0 THEN whats[number] := 1; xs[number] := -x;
ys[number] := y; must_flush := true; ELSIF FOUND THEN whats[number] := 2; END IF; END LOOP; clock := (extract(epoch
FROM clock_timestamp()) * 1000000)::bigint; IF clock > deadline THEN whats := '{}'; ROLLBACK; RETURN; END IF; IF
has_mail THEN INSERT INTO "rlock".mail (inbox, message, sent) SELECT t.inbox, t.message, now FROM unnest(inboxes,
messages) AS t (inbox, message) WHERE starts_with(t.inbox, 'mail'); END IF; IF NOT must_flush THEN PERFORM
set_config('synchronous_commit', 'off', true); END IF; IF cardinality(inboxes) > 0 THEN COMMIT; IF is_pooled THEN
PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('enable_seqscan',
'off', true), pg_catalog.set_config('jit', 'off', true), pg_catalog.set_config('plan_cache_mode',
'force_generic_plan', true), pg_catalog.set_config('lock_timeout', '500', true); END IF; IF
pg_notification_queue_usage() < 0.9 THEN PERFORM pg_notify(t.inbox, t.message) FROM unnest(inboxes, messages) AS t
(inbox, message) WHERE starts_with(t.inbox, 'rlock'); ELSE is_untold := true; END IF; END IF; END $change$;
