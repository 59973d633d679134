-- What rlock keeps in a file. A process of another boot holds nothing: when the first one of this boot connects, it
-- deletes all leases.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  boot TEXT NOT NULL,
  last INTEGER NOT NULL, -- the last token given out: max(the one before + 1, the host's time in µs)
  opens INTEGER NOT NULL -- when claims begin, in µs since the boot: not at once where there was another file before
) STRICT;
INSERT INTO state VALUES (1, '', 0, 0);

-- Times are µs since the boot.
CREATE TABLE leases (
  nr INTEGER PRIMARY KEY, -- in the order of the queue
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  id BLOB NOT NULL,
  weight INTEGER NOT NULL,
  capacity INTEGER NOT NULL,
  token INTEGER NOT NULL, -- 0 while it waits
  expires INTEGER NOT NULL,
  since INTEGER NOT NULL, -- when it was granted, or queued
  inbox TEXT NOT NULL,    -- where its client reads
  owner TEXT NOT NULL     -- who that is, for people
) STRICT;
CREATE UNIQUE INDEX leases_id ON leases (namespace, name, id);
CREATE INDEX leases_turn ON leases (namespace, name, token, nr);
CREATE INDEX leases_expires ON leases (expires);

-- What clients are told by others.
CREATE TABLE mail (
  inbox TEXT NOT NULL,
  id BLOB NOT NULL,
  token INTEGER NOT NULL, -- 0 if it was broken
  sent INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_inbox ON mail (inbox);
CREATE INDEX mail_sent ON mail (sent);
