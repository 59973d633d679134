-- There is no waiter: one write.
IF ttls[i] = 0 THEN
  UPDATE {schema}.locks AS k SET
    id = NULL, weight = 0, token = 0, expires = 0, inbox = NULL, owner = NULL, data = NULL
  WHERE k.namespace = space AND k.name = resource AND k.id = lease AND k.waiting = 0 AND k.expires > {now};
  IF FOUND THEN
    what := 6;
  END IF;
END IF;
