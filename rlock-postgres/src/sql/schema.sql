-- The tables that rlock needs in a database. The text may be run again, and by several sessions at once:
--   rlock schema | psql -X -v ON_ERROR_STOP=1 app
-- Without ON_ERROR_STOP psql reports success after an error.
--
-- Run it as a superuser, as the owner of the database, or as the role that programs connect by. With either of the first
-- two, that role needs no more than this:
--   GRANT USAGE ON SCHEMA {schema} TO its_name;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO its_name;

-- One statement, so that a client that goes on after an error, as psql does, skips no check.
DO $rlock$
DECLARE
  problem text;
BEGIN
  -- The role may be an administrator's, and runs no code of other roles here.
  SET LOCAL search_path = {search_path};
  PERFORM pg_advisory_xact_lock(7813576094128);
  CREATE SCHEMA IF NOT EXISTS {schema};
  problem := ({fault});
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = problem;
  END IF;

  -- A resource is a row, which outlives its leases for the sake of its tokens, and is deleted an hour after the last.
  -- Its leases are in arrays: holders in the order of their grants, and behind them waiters in the order of the queue.
  -- So each operation is one statement that changes one row; no index has what changes, and the dead versions of a row
  -- are cleared away by whoever comes by its page.
  CREATE TABLE IF NOT EXISTS {schema}.locks (
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    last bigint NOT NULL,     -- the last token given out: max(the one before + 1, the server's time in µs)
    capacity bigint NOT NULL, -- that the leases were claimed with
    ids uuid[] NOT NULL,
    weights bigint[] NOT NULL,
    tokens bigint[] NOT NULL, -- 0 while it waits
    expires bigint[] NOT NULL, -- µs since 1970 by the server's clock, as is since
    since bigint[] NOT NULL,  -- when it was granted, or queued
    inboxes text[] NOT NULL,  -- where its client is told: 'rlock_…' is a channel it listens to, 'mail_…' it reads below
    owners text[] NOT NULL,   -- who that is, for people
    PRIMARY KEY (namespace, name)
  ) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
  );

  -- What clients are told that cannot listen, because a pooler is between them and the server.
  CREATE TABLE IF NOT EXISTS {schema}.mail (
    inbox text COLLATE "C" NOT NULL,
    message text NOT NULL,
    sent bigint NOT NULL
  ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

  -- One row.
  CREATE TABLE IF NOT EXISTS {schema}.state (
    id smallint PRIMARY KEY CHECK (id = 1),
    version integer NOT NULL, -- of these tables
    made bigint NOT NULL,     -- when that was, in µs: nothing is claimed in a database that has just lost everything
    floor bigint NOT NULL,    -- the highest token of the rows that were deleted
    swept bigint NOT NULL     -- when somebody last looked for rows to delete, in µs
  );
  -- Another role may have made a table since the first check. Only a transaction with an old snapshot does not see that.
  problem := ({fault});
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = problem;
  END IF;
  IF 3 > (
    SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = '{name}' AND c.relname IN ('locks', 'mail', 'state')
  ) THEN
    RAISE EXCEPTION USING ERRCODE = '40001',
      MESSAGE = 'another session made tables in the schema {name} at the same time: run this again';
  END IF;
  CREATE INDEX IF NOT EXISTS mail_inbox ON {schema}.mail (inbox);
  INSERT INTO {schema}.state VALUES (1, 1, {now}, 0, 0)
    ON CONFLICT DO NOTHING;
END
$rlock$;
