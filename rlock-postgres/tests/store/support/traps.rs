//! Functions and operators that one role plants in the schema `public`, so that other roles run them by mistake.

use rlock_testkit::servers::PgWire;

use super::Server;

/// Operators and functions that fit the types of an expression of rlock better than those of Postgres. For roles that
/// search `public` first, also objects with the same types as those of Postgres.
const TRAPS: &str = "
    CREATE FUNCTION times(numeric, integer) RETURNS numeric LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('numeric * integer'); RETURN $1 OPERATOR(pg_catalog.*) $2::numeric; END $$;
    CREATE OPERATOR * (LEFTARG = numeric, RIGHTARG = integer, FUNCTION = times);
    CREATE FUNCTION times(float8, integer) RETURNS float8 LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('float8 * integer'); RETURN $1 OPERATOR(pg_catalog.*) $2::float8; END $$;
    CREATE OPERATOR * (LEFTARG = float8, RIGHTARG = integer, FUNCTION = times);
    CREATE FUNCTION at_most(numeric, bigint) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('numeric <= bigint'); RETURN $1 OPERATOR(pg_catalog.<=) $2::numeric; END $$;
    CREATE OPERATOR <= (LEFTARG = numeric, RIGHTARG = bigint, FUNCTION = at_most);
    CREATE FUNCTION differ(uuid[], uuid[]) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('uuid[] <> uuid[]'); RETURN $1 OPERATOR(pg_catalog.<>) $2; END $$;
    CREATE OPERATOR <> (LEFTARG = uuid[], RIGHTARG = uuid[], FUNCTION = differ);
    CREATE FUNCTION prepend(bigint, bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('bigint || bigint[]'); RETURN $1 OPERATOR(pg_catalog.||) $2; END $$;
    CREATE OPERATOR || (LEFTARG = bigint, RIGHTARG = bigint[], FUNCTION = prepend);
    CREATE FUNCTION array_position(uuid[], uuid) RETURNS integer LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('array_position'); RETURN pg_catalog.array_position($1, $2); END $$;
    CREATE FUNCTION cardinality(uuid[]) RETURNS integer LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('cardinality'); RETURN pg_catalog.cardinality($1); END $$;
    CREATE FUNCTION unnest(bigint[]) RETURNS SETOF bigint LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('unnest'); RETURN QUERY SELECT * FROM pg_catalog.unnest($1); END $$;
    CREATE FUNCTION gather(uuid[], uuid) RETURNS uuid[] LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('array_agg'); RETURN pg_catalog.array_append($1, $2); END $$;
    CREATE AGGREGATE array_agg(uuid) (SFUNC = gather, STYPE = uuid[]);

    CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('text = text'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
    CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
    CREATE FUNCTION same(smallint, integer) RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('smallint = integer'); RETURN $1 OPERATOR(pg_catalog.=) $2; END $$;
    CREATE OPERATOR = (LEFTARG = smallint, RIGHTARG = integer, FUNCTION = same);
    CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('clock_timestamp'); RETURN pg_catalog.clock_timestamp(); END $$;
    CREATE FUNCTION pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('pg_notify'); PERFORM pg_catalog.pg_notify($1, $2); END $$;
    CREATE FUNCTION current_setting(text, boolean) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('current_setting'); RETURN pg_catalog.current_setting($1, $2); END $$;
    CREATE FUNCTION current_setting(text) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('current_setting'); RETURN pg_catalog.current_setting($1); END $$;
    CREATE FUNCTION set_config(text, text, boolean) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('set_config'); RETURN pg_catalog.set_config($1, $2, $3); END $$;
    CREATE FUNCTION pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN PERFORM public.fell('pg_advisory_xact_lock'); PERFORM pg_catalog.pg_advisory_xact_lock($1); END $$;
    CREATE VIEW pg_stat_replication AS SELECT 1 AS one FROM public.fell('pg_stat_replication');
    GRANT SELECT ON public.pg_stat_replication TO PUBLIC";

/// An expression that springs each of the first traps, and the others for roles with such a search path.
const BAITS: &str = "
    SELECT 2::numeric * 3, 2::float8 * 3, 2::numeric <= 3::bigint, ARRAY[uuid '{0}'] <> '{}', 1::bigint || '{2}'::bigint[],
        array_position(ARRAY[uuid '{0}'], uuid '{0}'), cardinality(ARRAY[uuid '{0}']), array_agg(uuid '{0}')
        FROM unnest('{1}'::bigint[]);
    SET search_path = public, pg_catalog;
    SELECT text 'a' = text 'a', 1::smallint = 1, clock_timestamp(), pg_notify('a'::text, 'b'::text),
        current_setting('a.b'::text, true), current_setting('port'::text), set_config('a.b'::text, 'c'::text, true),
        pg_advisory_xact_lock(1::bigint) FROM pg_stat_replication";

impl Server {
    /// Makes a role set its traps in `public`, as any role may before version 15 and after an upgrade from there, and
    /// checks that each works.
    pub(crate) fn set_traps(&self) {
        self.query(
            "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE ROLE trapper LOGIN; \
             CREATE TABLE public.caught (expression text, role name); GRANT ALL ON public.caught TO PUBLIC; \
             CREATE FUNCTION public.fell(text) RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS \
             'INSERT INTO public.caught VALUES ($1, current_user)'",
        );
        let trapper = self.0.url().replace("//postgres@", "//trapper@");
        PgWire::connect(&trapper).and_then(|mut wire| wire.query(TRAPS)).unwrap();
        assert_eq!(self.caught(), [""; 0]);
        self.query(&BAITS.replace("{0}", "00000000-0000-0000-0000-000000000000"));
        let set = TRAPS.matches("public.fell('").count() - 1; // current_setting has two under one name
        assert_eq!(self.caught().len(), set, "{:?}", self.caught());
        self.query("TRUNCATE public.caught");
    }

    /// The expressions that were trapped, and the roles that they ran as.
    pub(crate) fn caught(&self) -> Vec<String> {
        let caught = self.query("SELECT DISTINCT expression || ', as ' || role FROM public.caught ORDER BY 1");
        caught.into_iter().flatten().flatten().collect()
    }
}
