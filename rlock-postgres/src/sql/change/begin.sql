IF is_pooled THEN
  COMMIT; -- the settings of a transaction come first in it
  SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
  {settings}
END IF;
whats := '{}';
xs := '{}';
ys := '{}';
is_untold := false;
