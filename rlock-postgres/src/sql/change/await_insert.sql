-- A claim that inserts the row may still wait for its flush, and until then no other session sees the row. An insertion
-- of the same row waits until that claim has ended. A row that this inserts is gone when this call ends.
INSERT INTO {schema}.locks (
  namespace, name, last, capacity, weight, token, since, expires, shared, waiting, head, tail, ended_at
) VALUES (space, resource, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0) ON CONFLICT DO NOTHING;
IF FOUND THEN
  DELETE FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource;
END IF;
SELECT * INTO l FROM {schema}.locks AS k WHERE k.namespace = space AND k.name = resource FOR NO KEY UPDATE;
