//! The texts of `rlock help` beside the options.

macro_rules! stores {
    () => {
        "--url or RLOCK_URL names the store: redis://HOST:PORT, rediss://HOST:PORT, \
        redis-sentinel://HOST:PORT,HOST:PORT/SERVICE, redis-cluster://HOST:PORT,HOST:PORT, redis+unix:///SOCKET, \
        etcd://HOST:PORT,HOST:PORT, etcds://HOST:PORT, postgres://HOST:PORT/DATABASE, sqlite:PATH. Without either, \
        rlock uses a file in the user's home, which the processes of this host share."
    };
}

pub(super) const STORES: &str = stores!();

pub(super) const RUN: &str = concat!(
    stores!(),
    "

The program runs in its own process group, with the standard streams and the terminal of rlock. Its environment has \
the lock's name in RLOCK_NAME and the fencing token in RLOCK_TOKEN, with one line for each of several locks. Every \
grant of a lock has a larger token: pass it to the system that has to refuse a stale holder. rlock forwards TERM, INT, \
HUP, QUIT, USR1, USR2, WINCH, TSTP and CONT to the group, extends the lock while the program runs, and releases it \
after the program has ended.

The lock is held until the whole process tree has ended: the program and all its descendants, including daemons in \
other sessions. (flock does the same with inherited descriptors.) A process that another service starts on request is \
no descendant, as by docker run, systemd-run, at or cron: rlock neither waits for it nor ends it. With --wait-for \
program the lock is released when the program ends, and its descendants run on without the lock. If the program ended \
because rlock got TERM, INT, HUP or QUIT, the rest of the tree gets TERM, each process once. systemd sends TERM to every \
process of a unit, so that the program gets it twice: with KillMode=mixed only rlock gets it, and forwards it.

If the lock cannot be extended, the tree gets TERM when a quarter of the TTL is left (5s at most), and KILL shortly \
before the lock ends. If the store reports that the lock is gone, the tree gets TERM at once, and KILL after a quarter \
of the TTL (1s at most). A program that is stopped together with rlock, for example by Ctrl-Z, loses the lock after \
the TTL; rlock then kills it instead of continuing it.

A second process, the keeper, starts the program. The keeper and rlock watch each other: when one of the two is killed \
or stopped, the other kills the tree before the lock ends. With --on-lost ignore, the program of a stopped rlock runs \
on. When rlock is killed, the system continues a stopped keeper. If both are killed at once, or the keeper while rlock \
is stopped, only the program itself dies, and its descendants run on. If both are stopped, or the keeper is stopped \
right after rlock was killed, nothing ends the tree. rlock cannot kill processes of another user, as under sudo: it \
reports them, and holds the lock while they run. After a loss, or when rlock is killed, they run on without the lock. \
Outside Linux rlock reaches only the program's process group.

With --pid-namespace the program runs in a PID namespace, which the system ends with the keeper. The system also kills \
the keeper when rlock dies, and before the lock ends if the keeper does not do its work: nothing of the tree is left, \
even if both are killed or stopped, in any order. The program sees only its own processes there, with other numbers, \
and its mounts are its own. Without the rights of root it also runs in a user namespace, in which sudo and other users \
do not work. If the system refuses namespaces, as many containers do, rlock ends with status 71.

Exit status:
  the program's own; 128+n if signal n ended the program or the wait for the lock. After INT, rlock itself dies of INT.
   64  wrong usage, or this run is inside an rlock run that holds the lock
   69  the store cannot be reached (with --wait: within that time), or refuses
   71  the operating system refuses a process, a thread or a file descriptor, or the keeper was killed or did not answer
   74  the store did not confirm the release, and the program's status was 0
   75  not acquired: others hold the lock (--try, --wait); --conflict-status names another
   76  the lock was lost
   77  the program was ended by --max-hold
  126  the program cannot be executed
  127  the program was not found
With --json, the event ended has the program's status, and the field exit of other events has rlock's own.

With --json each line on standard error is an object with the fields time (UTC), event, message (the text without \
--json), and:
  waiting      name, holders, queue      the numbers of holders and waiters; capacity if the lock has another --slots
  unavailable  name or names; exit       the store does not answer; exit if rlock gives up
  acquired     name, token
  started      process                   the program's process id
  left         names, processes, more    the program has ended; ids of 20 descendants at most, the number of others at its end
  ended        status or signal          of the program; the other one is null
  losing       names, remaining_ms       the lock cannot be extended, and ends after this time
  lost         name, reason              \"broken\", \"expired\", \"gone\", \"taken_over\" and others; names and exit if
                                         the program was not started
  overdue      names                     by --max-hold
  killed, stopped, continued             the program
  not_killed   processes, more           of another user: ids of 20 at most, the number of others
  keeping      names, for_ms             by --min-hold
  released     names
  not_released names                     the store does not confirm the release
  not_extended names                     with --handle: the store does not confirm the extension
  unanswered   names, exit               the store has answered nothing within --wait
  busy, timed_out, interrupted, nested, other_kind, wrong_usage, not_acquired, not_started, refused     names, exit
  message                                anything else

Examples:
  rlock run nightly-report --wait 5m -- ./report --all
  rlock run nightly-report --url redis://localhost:6379 -- ./report --all"
);

pub(super) const ELECT: &str = concat!(
    stores!(),
    "

The candidates of one NAME lead in the order in which they began to campaign. The leader's program runs as under rlock \
run: rlock help run says how rlock starts it, extends its lock and ends it. When the lead is lost, rlock ends the \
program and campaigns again, at most once per second. A candidate waits for a store that does not answer, also before \
its first term. When the program ends by itself, or its keeper is killed, rlock resigns and ends: let a supervisor \
start it again if this host should stay a candidate. TERM, INT, HUP and QUIT end the campaign or the program, and then \
rlock.

The program has the name of the election in RLOCK_NAME and the token of its term in RLOCK_TOKEN. Each later leader has \
a larger token: send it along with requests, so that others can refuse a deposed leader.

Exit status:
  the program's own; 128+n if signal n ended it, or ended the campaign
   64  wrong usage
   69  the store refuses
   71  the operating system refuses a process, a thread or a file descriptor, or the keeper was killed or did not answer
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
   74  the output cannot be written

Example:
  rlock leader scheduler --json | jq -r .leader.data"
);

pub(super) const ACQUIRE: &str = concat!(
    stores!(),
    "

Nothing extends the lock: it ends after its TTL, unless rlock extend or rlock run --handle takes it over, on any host. \
Keep the handle secret: it is enough to release the lock. Other users of the host can see it, as by ps, while rlock \
extend, rlock release or rlock run --handle runs.

Exit status:
    0  acquired, and the handle printed; with --skip-ok also if others hold the lock, without a handle;
       128+n if signal n ended the wait
   64  wrong usage
   69  the store cannot be reached (with --wait: within that time), or refuses
   71  the operating system refuses a thread or a file descriptor
   74  the handle could not be printed, and the lock was released
   75  not acquired: others hold the lock (--try, --wait); --conflict-status names another
   76  the lock was lost before the handle was printed

With --json each line on standard error is an object, with the fields and events of rlock run. The handle on standard \
output stays plain text.

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
   76  the lock had ended before, and others may have held it since

With --json each line on standard error is an object with the fields time (UTC), event, message (the text without \
--json), and: extended has the field name, released has names, message is anything else."
);

pub(super) const SHOW: &str = concat!(
    stores!(),
    "

The fields of the JSON:
  name            the lock
  state           \"free\", \"held\", or \"resting\": without a holder, but not granted before its minimum hold ends
  rest_ms         the time for which permits without a holder stay taken (minimum hold); null if there are none
  capacity        its permits, 1 for a mutex; null if the lock is free
  holders         in the order of their grants:
    host, process, label    the holder; the label may be null
    data                    the data that the holder stored with the lock, as text; may be null
    token                   the fencing token
    weight                  the permits taken
    since, held_for_ms      the time of the grant (UTC), and the time since then
    remaining_ms            the rest of the TTL since the last extension
  queue           the waiters, the next one first:
    host, process, label, data, weight, since, waiting_for_ms, remaining_ms

Exit status:
    0  the lock is free, held or resting
   64  wrong usage
   69  the store cannot be reached, or refuses
   74  the output cannot be written"
);

pub(super) const LIST: &str = concat!(
    stores!(),
    "

The fields of the JSON:
  name      the lock
  holders   the number of holders
  waiters   the number of waiters

Exit status:
    0  listed
   64  wrong usage
   69  the store cannot be reached, or refuses
   74  the output cannot be written"
);

pub(super) const WATCH: &str = concat!(
    stores!(),
    "

rlock watch shows 200 locks at most; PREFIX selects others. On a terminal it takes the whole screen until q or Ctrl-C. \
When the store does not answer, it reports that and continues. A bar shows the time left of a lease, relative to the \
longest time left that rlock watch has seen of it: the bar of a lease that is extended stays nearly full.

Exit status:
    0  ended by q, Ctrl-C, QUIT, TERM or HUP, or because the reader of the output has gone
   64  wrong usage
   69  the store cannot be reached, or refuses
   74  the output cannot be written"
);

pub(super) const WAIT: &str = concat!(
    stores!(),
    "

rlock wait asks the store at least every half a second, and continues through outages of the store. It does not queue: \
another client may hold the lock by the time it ends. Use rlock run to work while no other client holds the lock.

With --json each line on standard error is an object with the fields time (UTC), event, message (the text without \
--json). The events, each with the field name: waiting (the lock is not free; only with --json, with the numbers holders \
and queue), unavailable (the store does not answer) and late (the time of --wait is over).

Exit status:
    0  the lock is free
   64  wrong usage, or without --wait: this command is inside an rlock run that holds the lock
   69  the store cannot be reached, or refuses
   75  the lock did not become free in time (--wait)"
);

pub(super) const BREAK: &str = concat!(
    stores!(),
    "

The store notifies all holders at once and grants the lock to the next waiters. An rlock run then ends its program, \
within a second. A holder that does not notice the loss works on beside the next one: only the fencing token lets the \
guarded resource distinguish the two.

With --json each line on standard error is an object with the fields time (UTC), event, message (the text without \
--json). The event broken has the fields name, and holders, the number of holders before.

Exit status:
    0  no earlier holder holds the lock any more
    1  not broken: the answer on the terminal was no
   64  wrong usage
   69  the store cannot be reached, or refuses"
);

pub(super) const CHECK: &str = concat!(
    stores!(),
    "

rlock check reports whether the store can be reached, how long an answer takes, its version, and which of its settings \
endanger locks. Then it runs the conformance suite in its own namespaces, which it removes: that touches no other \
locks, but puts a load of some thousand requests a second on the store. Each line begins with good, note (worth \
knowing), or risk (a lock can get lost, or be granted twice).

The fields of the JSON:
  verdict   \"good\", \"note\" or \"risk\"
  subject   the property that was examined
  text      the result, and the remedy

Exit status:
    0  no risk was found
    1  at least one risk was found
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

rlock bench compares locks with the store's own cost for the same work, in one run: each ratio is the cost of the lock \
divided by that of its bare counterpart. All keys are in a namespace that is removed at the end. The load is as high as \
the store takes, for two to seven minutes: run it on a store without other work.

The benchmarks, for --only:
  round-trip   the cheapest request: a ping, or a read of nothing
  pair         the two writes that every lock needs
  cycle        lock + unlock, with 1, 8, 64 and 256 tasks (--tasks), each on its own name, beside the pair
  cpu          CPU time of the client, and of the server where it runs on this host
  hand-over    from an unlock to the guard in another client, with 1 and --waiters waiting, beside a write and its push
  queue        a join of a queue and the renewal of a waiter, with 1 and --waiters waiting, beside the pair
  contention   64 tasks on one name: turns, and requests for each
  renewal      keeping --leases alive: CPU, memory, the size of the store, how late the latest renewal was
  drift        64 names after --drift-cycles cycles, beside the first

The table shows the median (p50), the 99th percentile (p99), operations per second of wall time, and the ratio. \
docs/performance.md says how to read it.

The fields of the JSON; a field that a benchmark does not have is left out:
  benchmark     as above
  what          the measurement
  tasks         the number of tasks, waiters or leases
  samples       the number of measured operations
  p50_us        the median, in microseconds
  p99_us        the 99th percentile
  per_second    operations in a second of wall time
  ratio         the cost beside that of the bare counterpart
  client_cpu_us, client_cpu_ratio, server_cpu_us, server_cpu_ratio     cpu
  requests_per_turn                                                    contention
  client_core_percent, server_core_percent, bytes_per_lease,
  store_bytes_per_lease, store_bytes_per_idle_name, worst_lag_us, lost renewal
  first_per_second, bare_ratio, cycles_before                          drift
  ..._per_cycle, ..._per_turn      counters of the server itself

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
--url or RLOCK_URL names the database: postgres://USER:PASSWORD@HOST:PORT/DATABASE. Its option schema=NAME names the \
schema; the default is rlock. The printed SQL depends on nothing else in the URL, and may be run again.

Exit status:
    0  printed, or created
   64  wrong usage
   69  the store cannot be reached, or refuses

Examples:
  rlock schema | psql -X -v ON_ERROR_STOP=1 app
  rlock schema --create --url postgres://admin@db.example.org/app";
