-- Creates the tables that rlock needs in a database. It is safe to run it again, and in several sessions at once:
--   rlock schema | psql -X -v ON_ERROR_STOP=1 app
-- Without ON_ERROR_STOP psql reports success after an error.
--
-- Run it as a superuser, as the owner of the database, or as the role of the programs. In the first two cases that role
-- needs only these privileges:
--   GRANT USAGE ON SCHEMA {schema} TO its_name;
--   GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO its_name;

-- It is one statement, so that a client that goes on after an error, as psql does, skips no check.
DO $rlock$
DECLARE
  problem text;
  found integer;
BEGIN
  -- The role may be an administrator's, and must not run code of other roles here.
  SET LOCAL search_path = {search_path};
  PERFORM pg_advisory_xact_lock(7813576094128);
  IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{name}') THEN
    CREATE SCHEMA {schema};
  END IF;
  problem := ({fault});
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = problem;
  END IF;
  IF to_regclass('{schema}.state') IS NOT NULL THEN
    SELECT version INTO found FROM {schema}.state;
    IF found <> {version} THEN
      RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = 'the tables in the schema {name} are of version ' || found
        || ', and this is version {version}: where no program uses them any more, drop the schema and run this again; '
        'otherwise choose another schema';
    END IF;
  END IF;

  -- A resource is a row. It outlives its leases, because it holds the last token, and is deleted an hour after the last
  -- lease. No index contains a column that changes, so that new versions of a row stay on its page, where each reader
  -- removes the dead ones.
  CREATE TABLE IF NOT EXISTS {schema}.locks (
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    last bigint NOT NULL,     -- the last token given out: max(the one before + 1, the server's time in µs)
    capacity bigint NOT NULL, -- that the leases were claimed with
    -- The sole holder, or one of several; a rest if id is NULL; nothing if expires is 0.
    id uuid,
    weight bigint NOT NULL,
    token bigint NOT NULL,
    since bigint NOT NULL,    -- when it was granted, in µs since 1970 by the server's clock, as all times
    expires bigint NOT NULL,
    inbox text,               -- of its client: 'rlock_…' is a channel for NOTIFY, 'mail_…' an address in the table mail
    owner text,               -- its description, for people
    data bytea,
    -- A summary of this resource's rows in the table leases.
    shared bigint NOT NULL,   -- the weight of its holders and rests
    soonest bigint NOT NULL DEFAULT 0, -- none of these expires before; of no meaning if there are none
    waiting bigint NOT NULL,  -- the number of its waiters
    head bigint NOT NULL,     -- no waiter has a lower place
    tail bigint NOT NULL,     -- the last place given out
    ended uuid,               -- the lease whose release granted others last, and when: a release that is sent again repeats
    ended_at bigint NOT NULL, -- their notifications
    PRIMARY KEY (namespace, name)
  ) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
  );

  -- A waiter, or a holder or a rest in addition to the one in locks. A renewal changes no other row, and no index.
  CREATE TABLE IF NOT EXISTS {schema}.leases (
    namespace text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    place bigint NOT NULL,    -- in the queue; of a holder and of a rest its token, less than 0
    id uuid,                  -- NULL for a rest
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

  -- Notifications for clients that cannot listen, because a pooler is between them and the server.
  CREATE TABLE IF NOT EXISTS {schema}.mail (
    inbox text COLLATE "C" NOT NULL,
    message text NOT NULL,
    sent bigint NOT NULL
  ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

  -- One row.
  CREATE TABLE IF NOT EXISTS {schema}.state (
    id smallint PRIMARY KEY CHECK (id = 1),
    version integer NOT NULL, -- of these tables: programs of another version refuse them
    made bigint NOT NULL,     -- the time of their creation, in µs: the restart grace counts from it
    floor bigint NOT NULL,    -- the highest token of the rows that were deleted
    swept bigint NOT NULL     -- when a client last looked for rows to delete, in µs
  );
  -- Another role may have made a table since the first check. Only a transaction with an old snapshot does not see that.
  problem := ({fault});
  IF problem IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = '22P02', MESSAGE = problem;
  END IF;
  IF 4 > (
    SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = '{name}' AND c.relname IN ('locks', 'leases', 'mail', 'state')
  ) THEN
    RAISE EXCEPTION USING ERRCODE = '40001',
      MESSAGE = 'another session made tables in the schema {name} at the same time: run this again';
  END IF;
  CREATE INDEX IF NOT EXISTS leases_id ON {schema}.leases (id);
  CREATE INDEX IF NOT EXISTS mail_inbox ON {schema}.mail (inbox);
  INSERT INTO {schema}.state (id, version, made, floor, swept) VALUES (1, {version}, {now}, 0, 0) ON CONFLICT DO NOTHING;

  -- The procedures of another version of rlock stay beside these.
  IF 2 > (
    SELECT count(*) FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = '{name}' AND p.proname IN ('change_{procedures}', 'change_free_{procedures}')
  ) THEN
    {change}
  END IF;
END
$rlock$;
