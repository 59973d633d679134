-- Times are µs of the clock that `state` names.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  clock TEXT NOT NULL,   -- by which all times here are counted: usually that of one start of the host
  last INTEGER NOT NULL, -- the greatest token of the resources whose rows were deleted
  opens INTEGER NOT NULL -- nothing is granted before: where locks were lost, their holders learn of it first
) STRICT;
INSERT INTO state VALUES (1, '', 0, 0);

-- A resource, and in the same row its holder while no other lease shares or waits. The row is used again, and deleted a minute after
-- its last use.
CREATE TABLE resources (
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  crowd INTEGER NOT NULL,    -- of its rows in `leases`; 0 if there are none
  capacity INTEGER NOT NULL,
  last INTEGER NOT NULL,     -- its last token: max(the one before + 1, the host's time in µs)
  taken INTEGER NOT NULL,    -- the weights that are held or rest
  expires INTEGER NOT NULL,  -- the holder in this row; of a free resource the time of its last use
  since INTEGER NOT NULL,
  renewed INTEGER NOT NULL,  -- when the holder's `expires` was set
  id BLOB,                   -- the holder's lease; NULL if no holder is in this row
  inbox TEXT NOT NULL,
  owner TEXT NOT NULL,
  data BLOB,
  PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;

-- The holders, waiters and rests of a resource that is shared or waited for.
CREATE TABLE leases (
  nr INTEGER PRIMARY KEY,   -- in the order of the queue
  crowd INTEGER NOT NULL,
  state INTEGER NOT NULL,   -- 0 waits, 1 holds, 2 rests
  token INTEGER NOT NULL,
  weight INTEGER NOT NULL,
  expires INTEGER NOT NULL,
  since INTEGER NOT NULL,   -- when it was granted, or queued
  renewed INTEGER NOT NULL, -- when `expires` was set
  id BLOB NOT NULL,         -- empty for a rest
  inbox TEXT NOT NULL,      -- where its client reads
  owner TEXT NOT NULL,      -- who that is, for people
  data BLOB
) STRICT;
CREATE INDEX leases_id ON leases (crowd, id);
CREATE INDEX leases_state ON leases (crowd, state);
CREATE INDEX leases_end ON leases (crowd, state, expires);

-- Notices to clients about their leases.
CREATE TABLE mail (
  nr INTEGER PRIMARY KEY,
  inbox TEXT NOT NULL,
  id BLOB NOT NULL,
  token INTEGER NOT NULL, -- 0 if the lease was broken
  sent INTEGER NOT NULL
) STRICT;
CREATE INDEX mail_inbox ON mail (inbox);
