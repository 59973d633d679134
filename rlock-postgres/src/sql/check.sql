-- The version of the tables, whether the procedure of this version is there, and whether this session is the server's own: a
-- pooler sets the name of an application in a session that it has begun before. Fails if another role could have code of its
-- own in the tables. The statements are one message, so that the search path holds for all of it, and the third is not even
-- planned if the second fails.
SET LOCAL search_path = {search_path};
-- Plain SQL raises an error with a message of its own only by a cast that fails.
SELECT WHERE coalesce(({fault}), '0')::integer > 0;
SELECT s.version, pg_is_in_recovery(),
  (SELECT source = 'client' FROM pg_settings WHERE name = 'application_name'),
  EXISTS (
    SELECT FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = '{name}' AND p.proname = 'change_{procedures}'
  )
FROM {schema}.state AS s WHERE s.id = 1;
