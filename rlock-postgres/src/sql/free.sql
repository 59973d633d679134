-- Runs claims of free resources, refusals, and releases without waiters and rests, as change.sql does. Undoes all, and
-- returns no entries, if one of them needs more or the deadline has passed. A session compiles this procedure in a third of
-- the time of change.sql.
CREATE OR REPLACE PROCEDURE {schema}.change_free_{procedures}(
  is_pooled boolean, space text, grace bigint, deadline bigint, our_inbox text, verbs bigint[], names text[], ids uuid[],
  ttls bigint[], weights bigint[], capacities bigint[], owners text[], datas bytea[],
  INOUT whats bigint[], INOUT xs bigint[], INOUT ys bigint[], INOUT is_untold boolean, INOUT clock bigint
) LANGUAGE plpgsql AS $free$
DECLARE
  now bigint;
  verb integer;
  resource pg_catalog.text;
  lease pg_catalog.uuid;
  l {schema}.locks;
  what integer;
  x bigint;
  y bigint;
  number bigint;
  made_at bigint;
  lowest bigint;
  is_stale boolean;
  must_flush boolean := false;
BEGIN
  {begin}
  FOR i IN 1 .. cardinality(verbs) LOOP
    verb := verbs[i];
    resource := names[i];
    lease := ids[i];
    what := NULL;
    now := {now};
    IF verb = 2 THEN
      {release_alone}
    ELSE
      {claim_free}
    END IF;
    EXIT WHEN what IS NULL;
    whats[i] := what;
    xs[i] := coalesce(x, 0);
    ys[i] := coalesce(y, 0);
  END LOOP;
  clock := {now};
  IF what IS NULL OR clock > deadline THEN
    whats := '{}';
    ROLLBACK;
  ELSIF NOT must_flush THEN
    PERFORM set_config('synchronous_commit', 'off', true);
  END IF;
END
$free$;
