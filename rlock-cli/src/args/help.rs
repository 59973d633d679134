//! What `rlock help` says beyond the options.

macro_rules! stores {
    () => {
        "The store is named by --url or RLOCK_URL: redis://HOST:PORT, rediss://HOST:PORT, redis-sentinel://HOST:PORT,HOST:PORT/SERVICE, redis-cluster://HOST:PORT,HOST:PORT, \
        redis+unix:///SOCKET, etcd://HOST:PORT,HOST:PORT, \
        etcds://HOST:PORT, postgres://HOST:PORT/DATABASE, sqlite:PATH. Without it, it is a file of the user's, which the \
        processes of this host share."
    };
}

pub(super) const STORES: &str = stores!();

pub(super) const RUN: &str = concat!(
    stores!(),
    "

The program runs in a process group of its own, with the standard streams and the terminal of rlock, and with \
RLOCK_NAME and RLOCK_TOKEN in its environment, a line each for several locks. The token grows with every grant of the lock: send it along to \
the part that has to refuse a stale holder. rlock passes TERM, INT, HUP, QUIT, USR1, USR2, WINCH, TSTP and CONT on to the \
group, extends the lock while the program runs, and gives it back once the program has ended.

The lock is held until the whole tree has ended: the program and all that descends from it, daemons in other sessions too, \
as flock does with inherited descriptors. With --wait-for program it is released when the program has ended, and what the \
program leaves behind runs on without it. If the program ended because rlock got TERM, INT, HUP or QUIT, the rest of the \
tree gets TERM.

If the lock cannot be extended, the tree gets TERM when a quarter of the TTL is left (5s at most), and KILL shortly \
before the lock ends. If the store says that the lock is gone, it gets TERM at once and KILL within that time (1s at \
most). A program that is stopped together with rlock, by Ctrl-Z for example, loses the lock once the TTL has passed, \
and is then killed instead of continued.

A second process, the keeper, starts the program and watches rlock, as rlock watches the keeper. When one of the two is \
killed or stopped, the other kills the tree before the lock ends. Nothing ends the tree if both are killed or stopped at \
once, except that the program itself dies with the keeper; nor can rlock kill processes of another user, as under sudo: \
it says so, and holds the lock while they run. Outside Linux rlock reaches the program's process group only.

Exit status:
  the program's own; 128+n if signal n ended it, or ended the waiting, where rlock dies of INT as the program did
   64  wrong usage, or this run is inside of one that holds the lock
   69  the store cannot be reached, or refuses
   71  the operating system refuses a process, a thread or a descriptor
   74  the store did not confirm the release, and the program's status was 0
   75  not acquired: others hold the lock (--try, --wait); --conflict-status names another
   76  the lock was lost
   77  the program was ended by --max-hold
  126  the program cannot be executed
  127  the program was not found
With --json, the status of a program is in the event ended, and rlock's own is in the field exit of the other events.

With --json each line on standard error is an object with the fields time (UTC), event, message (as without it), and:
  waiting      name, holders, queue      how many hold it and wait for it
  unavailable  name, or names and exit   the store does not answer
  acquired     name, token
  started      process                   the program, by its process id
  left         names, processes          the program has ended, and these have not
  ended        status or signal          of the program; the other one is null
  losing       names, remaining_ms       it cannot be extended, and ends then
  lost         name, reason              \"broken\", \"expired\", \"gone\", \"taken_over\" and others
  overdue      names                     by --max-hold
  killed, stopped, continued             the program was
  not_killed   processes                 of another user
  keeping      names, for_ms             by --min-hold
  released     names
  not_released names                     the store does not confirm it
  busy, timed_out, interrupted, nested, other_kind, not_acquired, not_started, refused     names, exit
  message                                anything else

Examples:
  rlock run nightly-report --wait 5m -- ./report --all
  rlock run nightly-report --url redis://localhost:6379 -- ./report --all"
);

pub(super) const ELECT: &str = concat!(
    stores!(),
    "

The candidates of one NAME lead in the order in which they began to campaign. The leader's program runs as under rlock run, \
whose help says how it is started, renewed and ended. When the lead is lost, rlock ends the program and campaigns again; it \
retries through outages of the store. When the program ends by itself, rlock resigns and ends with the program's status: \
let a supervisor start it again if this host should stay a candidate. TERM, INT, HUP and QUIT end the campaign or the program, \
and then rlock.

The program finds the election in RLOCK_NAME and the token of its term in RLOCK_TOKEN. Each later leader has a greater token: \
send it along, so that others can refuse a leader that was deposed and does not know it yet.

Exit status:
  the program's own; 128+n if signal n ended it, or ended the campaign
   64  wrong usage
   69  the store cannot be reached before the first term, or refuses
   71  the operating system refuses a process, a thread or a descriptor
   74  the store did not confirm that this candidate resigned, and the program's status was 0
  126  the program cannot be executed
  127  the program was not found

With --json the events are those of rlock run, and:
  campaigning  name   the lead was lost, and this candidate campaigns again

Example:
  rlock elect scheduler --data http://10.0.0.7:8080 -- ./scheduler --port 8080"
);

pub(super) const LEADER: &str = concat!(
    stores!(),
    "

The leader's data are what it gave to rlock elect --data, or to a campaign of the library. With --follow it asks the store \
about once a second: it can miss a leader that came and went between two answers, whose term shows as a gap in the tokens.

The fields of the JSON:
  name             the election
  state            \"led\", \"vacant\", or with --follow \"unsure\": the store does not answer, and the leader may have changed
  leader           null unless it is led:
    host, process, label    the candidate that leads; the label may be null
    data                    its data as text; may be null
    token                   the fencing token of its term
    since, led_for_ms       the beginning of the term (UTC), and its age
    remaining_ms            the time for which it leads unless it renews

Exit status:
    0  a candidate leads; with --follow, the reader has gone
    1  no candidate leads
   64  wrong usage
   69  the store cannot be reached, or refuses

Example:
  rlock leader scheduler --json | jq -r .leader.data"
);

pub(super) const ACQUIRE: &str = concat!(
    stores!(),
    "

Nothing keeps the lock alive: it ends when its TTL has passed, unless rlock extend or rlock run --handle goes on with it, on \
any host. Keep the handle to yourself: it is enough to release the lock.

Exit status:
    0  acquired, and the handle printed
   64  wrong usage
   69  the store cannot be reached, or refuses
   75  not acquired: others hold the lock (--try, --wait); --conflict-status names another

Example:
  handle=$(rlock acquire deploy --ttl 10m --wait 1m)
  rlock run --handle \"$handle\" -- ./migrate
  rlock run --handle \"$handle\" -- ./roll-out
  rlock release \"$handle\""
);

pub(super) const HANDLE: &str = concat!(
    stores!(),
    "

Exit status:
    0  done
   64  wrong usage
   69  the store cannot be reached, or refuses
   74  the store did not confirm the release
   76  the lock had ended, and others may have held it since"
);

pub(super) const SHOW: &str = concat!(
    stores!(),
    "

The fields of the JSON:
  name            the lock
  state           \"free\", \"held\", or \"resting\": nobody holds it, and nobody gets it yet
  rest_ms         how long a part of it stays taken though nobody holds that part; null without a rest
  capacity        its permits, 1 for a mutex; null if nobody holds it or waits, and it does not rest
  holders         those who hold it, in the order in which they got it:
    host, process, label    who it is; the label may be null
    data                    what the holder gave the lock to carry, as text; may be null
    token                   the fencing token
    weight                  the permits taken
    since, held_for_ms      when it got the lock (UTC), and how long ago
    remaining_ms            how long it keeps the lock unless it extends it
  queue           those who wait, the first in line first:
    host, process, label, data, weight, since, waiting_for_ms, remaining_ms

Exit status:
    0  the lock is free, held or resting
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

pub(super) const LIST: &str = concat!(
    stores!(),
    "

The fields of the JSON:
  name      the lock
  holders   how many hold it
  waiters   how many wait for it

Exit status:
    0  listed
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

pub(super) const WATCH: &str = concat!(
    stores!(),
    "

On a terminal it takes the whole screen until q or Ctrl-C. It goes on when the store fails, and says so. The bars show what is left of the longest life that this has seen of a \
lease: one that is extended stays near the full.

Exit status:
    0  ended by Ctrl-C, QUIT, TERM or HUP, or because nobody reads
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

pub(super) const WAIT: &str = concat!(
    stores!(),
    "

It looks every half a second at least, through outages of the store, and takes no place in the queue: somebody else may have the lock by the time that \
this returns. To do something while nobody else can, use rlock run.

With --json each line on standard error is an object with the fields time (UTC), event, message (as without it); the event \
is late if the time was up, with the field name.

Exit status:
    0  the lock is free
   64  wrong usage
   69  the store cannot be reached, or refuses
   75  the lock did not get free in time (--wait)"
);

pub(super) const BREAK: &str = concat!(
    stores!(),
    "

All who hold the lock are told at once, and the next in the queue get it. An rlock run ends its program then, within a \
second. Whoever does not listen goes on with its work beside the next holder: what the lock guards can only tell them apart \
by the token.

With --json each line on standard error is an object with the fields time (UTC), event, message (as without it), and for the \
event broken: name, and holders, how many held it.

Exit status:
    0  nobody who held it before holds it any more
    1  not broken, by the answer on the terminal
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

pub(super) const CHECK: &str = concat!(
    stores!(),
    "

It tells whether the store can be reached, how long an answer takes, its version, and which of its settings endanger locks. \
Then it runs the conformance suite, in namespaces of its own: that changes nothing of anybody else's, but is a load of \
some thousand requests a second. Each line begins with good, note (worth knowing), or risk (locks can get lost, or be granted \
twice).

The fields of the JSON:
  verdict   \"good\", \"note\" or \"risk\"
  subject   what was looked at
  text      what was found, and what to do

Exit status:
    0  there is no risk
    1  there is one
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

#[cfg(feature = "bench")]
pub(super) const BENCH_STORES: &str =
    concat!(stores!(), " memory: measures the locks of a single process, without a server.");

#[cfg(feature = "bench")]
pub(super) const BENCH: &str = concat!(
    stores!(),
    " memory: measures the locks of a single process, without a server.

It compares locks with the store's own cost for the same work, in one run: each ratio is the cost of the lock divided \
by that of its bare counterpart. All keys are in a namespace that is removed at the end. The load is as high as the \
store takes, for two to seven minutes: run it beside nothing else.

The lines, for --only:
  round-trip   the cheapest request: a ping, or a read of nothing
  pair         the two writes that no lock can do without
  cycle        lock + unlock, with 1, 8, 64 and 256 tasks (--tasks), each on a name of its own, beside the pair
  cpu          CPU time of the client, and of the server where it runs on this host
  hand-over    from an unlock to the guard in another client, with 1 and --waiters waiting, beside a write and its push
  contention   64 tasks on one name: turns, and requests for each
  renewal      keeping --leases alive: CPU, memory, how late the latest renewal was
  drift        64 names after --drift-cycles cycles, beside the first

The table shows the median (p50), the 99th percentile (p99), operations per second of wall time, and the ratio. \
docs/performance.md says how to read it.

The fields of the JSON; those that a line does not have are left out:
  line          as above
  what          what was measured
  tasks         how many tasks, waiters or leases there were
  samples       how many operations were measured
  p50_us        the median, in microseconds
  p99_us        the 99th percentile
  per_second    operations in a second of wall time
  ratio         the cost beside that of the bare counterpart
  client_cpu_us, client_cpu_ratio, server_cpu_us, server_cpu_ratio     cpu
  requests_per_turn                                                    contention
  client_core_percent, server_core_percent, bytes_per_lease, worst_lag_us, lost     renewal
  first_per_second, cycles_before                                      drift
  ..._per_cycle, ..._per_turn      what the server itself counts

Exit status:
    0  measured
   64  wrong usage
   69  the store cannot be reached, or refuses
  129  ended by HUP; finished rows were printed
  130  ended by Ctrl-C or INT, likewise
  143  ended by TERM, likewise

Examples:
  rlock bench redis://localhost:6379
  rlock bench --only cycle --only hand-over --seconds 10 postgres://localhost/app"
);

#[cfg(feature = "postgres")]
pub(super) const SCHEMA: &str = "\
The store is named by --url or RLOCK_URL: postgres://USER:PASSWORD@HOST:PORT/DATABASE. Its option schema=NAME names the \
schema, which is rlock without it. What is printed does not depend on the rest of the URL, and may be run again.

Exit status:
    0  printed, or made
   64  wrong usage
   69  the store cannot be reached, or refuses

Examples:
  rlock schema | psql -X -v ON_ERROR_STOP=1 app
  rlock schema --create --url postgres://admin@db.example.org/app";
