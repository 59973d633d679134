-- Lists what keeps the server from removing dead versions of rows: 1 transactions, 2 prepared transactions, 3
-- replication slots, 4 standbys with hot_standby_feedback. With a name, the age in seconds if it is known, and the age
-- in transactions.
SELECT kind, name, seconds, transactions FROM (
  SELECT 1::bigint, 'process ' || a.pid || CASE a.application_name WHEN '' THEN '' ELSE ' (' || a.application_name || ')' END,
    extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, greatest(age(a.backend_xmin), age(a.backend_xid))::bigint
  FROM pg_stat_activity AS a
  -- An idle transaction that has written may have no snapshot, and keeps them as well.
  WHERE a.datname = current_database() AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
    AND a.xact_start < clock_timestamp() - interval '1 minute' AND a.backend_type = 'client backend'
  UNION ALL
  SELECT 2, p.gid, extract(epoch FROM clock_timestamp() - p.prepared)::bigint, age(p.transaction)::bigint
  FROM pg_prepared_xacts AS p
  WHERE p.database = current_database() AND p.prepared < clock_timestamp() - interval '1 minute'
  UNION ALL
  SELECT 3, s.slot_name::text, 0, age(s.xmin)::bigint FROM pg_replication_slots AS s WHERE age(s.xmin) > 10000
  UNION ALL
  SELECT 4, r.application_name, 0, age(r.backend_xmin)::bigint FROM pg_stat_replication AS r WHERE age(r.backend_xmin) > 10000
) AS found (kind, name, seconds, transactions)
ORDER BY transactions DESC LIMIT 10
