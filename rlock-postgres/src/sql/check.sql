-- Reads the version of the tables, whether the procedures of this version exist, the server's time and its start, and
-- whether this session is direct: a pooler sets the name of the application in a session that it has begun before. Fails
-- if there is a reason not to trust the tables. The statements are one message, so that the search path holds for all of
-- it, and the server does not even plan the third if the second fails.
SET LOCAL search_path = {search_path};
-- In plain SQL only a failed cast raises an error with a custom message.
SELECT WHERE coalesce(({reason}), '0')::integer > 0;
SELECT s.version, pg_is_in_recovery(),
  (SELECT source = 'client' FROM pg_settings WHERE name = 'application_name'),
  2 <= (
    SELECT count(*) FROM pg_proc
    WHERE pronamespace = '{schema}'::regnamespace AND proname IN ('change_{procedures}', 'change_free_{procedures}')
  ),
  {now},
  (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
FROM {schema}.state AS s WHERE s.id = 1;
