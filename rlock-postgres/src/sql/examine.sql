-- The settings and the state of the server that matter for locks.
SELECT current_setting('server_version') AS version,
  current_setting('fsync') AS fsync,
  current_setting('full_page_writes') AS full_page_writes,
  current_setting('synchronous_commit') AS synchronous_commit,
  current_setting('synchronous_standby_names') AS synchronous_standby_names,
  pg_is_in_recovery() AS is_replica,
  (SELECT count(*) FROM pg_stat_replication) AS replicas,
  {now} AS now,
  (pg_notification_queue_usage() * 100)::bigint AS notification_queue,
  pg_has_role('pg_read_all_stats', 'MEMBER') AS sees_all
