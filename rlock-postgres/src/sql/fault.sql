-- The first reason not to trust the schema or the tables, with its remedy; NULL if there is none. The owner of the
-- tables, and each role that may create triggers on them, can run code as the role that uses them. Trusted are that
-- role itself, superusers, and the owner of the database with the members of that role.
WITH trusted AS (
  SELECT r.oid FROM pg_roles AS r, pg_database AS d
  WHERE d.datname = current_database()
    AND (r.rolname IN (current_user, 'pg_database_owner') OR pg_has_role(r.oid, d.datdba, 'MEMBER'))
), space AS (
  SELECT oid, nspowner FROM pg_namespace WHERE nspname = '{name}'
), tables AS (
  SELECT c.oid, c.relname, c.relowner, c.relacl FROM pg_class AS c JOIN space AS s ON s.oid = c.relnamespace
  WHERE c.relname IN ('locks', 'leases', 'mail', 'state')
), procedures AS (
  SELECT p.proname, p.proowner FROM pg_proc AS p JOIN space AS s ON s.oid = p.pronamespace
  WHERE starts_with(p.proname::text, 'change_')
), faults AS (
  SELECT 1 AS rank, 'every role may create objects in the schema {name}, and could have made the tables: '
    'REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, or choose another schema' AS fault
  FROM space WHERE has_schema_privilege('public', oid, 'CREATE')
  UNION ALL
  SELECT rank, what || ' belongs to the role ' || quote_ident(pg_get_userbyid(owner)) || ', whose code could run as '
    || quote_ident(current_user) || ': drop it if you did not make it; otherwise connect as its owner, or let the owner of '
    'the database or a superuser own the schema and its tables'
  FROM (
    SELECT 2, 'the schema {name}', nspowner FROM space
    UNION ALL
    SELECT 3, 'the table {name}.' || relname, relowner FROM tables
    UNION ALL
    SELECT 3, 'the procedure {name}.' || proname, proowner FROM procedures
  ) AS o (rank, what, owner)
  WHERE owner NOT IN (SELECT oid FROM trusted)
  UNION ALL
  SELECT 4, 'the trigger ' || quote_ident(t.tgname) || ' on the table {name}.' || c.relname || ' runs a function of the role '
    || quote_ident(pg_get_userbyid(p.proowner)) || ': DROP TRIGGER ' || quote_ident(t.tgname) || ' ON {schema}.' || c.relname
  FROM tables AS c JOIN pg_trigger AS t ON t.tgrelid = c.oid JOIN pg_proc AS p ON p.oid = t.tgfoid
  WHERE p.proowner NOT IN (SELECT oid FROM trusted)
  UNION ALL
  SELECT 5, CASE a.grantee WHEN 0 THEN 'every role' ELSE 'the role ' || quote_ident(pg_get_userbyid(a.grantee)) END
    || ' may create triggers on the table {name}.' || c.relname || ', which would run as ' || quote_ident(current_user)
    || ': REVOKE TRIGGER ON {schema}.' || c.relname || ' FROM '
    || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
    || ', and from the default privileges (ALTER DEFAULT PRIVILEGES)'
  FROM tables AS c, aclexplode(c.relacl) AS a
  WHERE a.privilege_type = 'TRIGGER' AND a.grantee NOT IN (SELECT oid FROM trusted)
)
SELECT fault FROM faults ORDER BY rank, fault LIMIT 1
