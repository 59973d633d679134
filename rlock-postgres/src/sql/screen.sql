-- A text if there is a reason not to trust the schema or the tables, else NULL: the rule of fault.sql, without the texts for
-- people. A new session has to plan each query, and planning this one takes half the time.
--
-- o has each role with power over an object; 0 is every role. A range of names takes the place of starts_with, which no
-- index serves.
SELECT 'the schema {name} or a table in it is not to be trusted'
FROM pg_namespace AS n, LATERAL (
  SELECT n.nspowner, has_schema_privilege('public', n.oid, 'CREATE')
  UNION ALL
  SELECT unnest(
    ARRAY[c.relowner]
    || ARRAY(SELECT a.grantee FROM aclexplode(c.relacl) AS a WHERE a.privilege_type = 'TRIGGER')
    || ARRAY(SELECT p.proowner FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid WHERE t.tgrelid = c.oid)
  ), false
  FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname IN ('locks', 'leases', 'mail', 'state')
  UNION ALL
  SELECT p.proowner, false FROM pg_proc AS p
  WHERE p.pronamespace = n.oid AND p.proname >= 'change_' AND p.proname < 'change`'
) AS o (role, is_open)
WHERE n.nspname = '{name}' AND (o.is_open OR (
  o.role IN (quote_ident(current_user)::regrole, to_regrole('pg_database_owner'))
  OR pg_has_role(o.role, (SELECT datdba FROM pg_database WHERE datname = current_database()), 'MEMBER')
) IS NOT TRUE)
LIMIT 1
