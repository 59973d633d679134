//! The terminal of a user at a shell.

#[path = "session.rs"]
mod session;

use nix::sys::signal::{Signal, kill, killpg};

use self::session::Session;
use super::Server;
use crate::support::{Folder, Observer, Process, Rlock, parent_of, unique, until};

/// Prints every line that it reads in angle brackets.
const ECHO: &str = "sh -c 'echo ready-$((1+1)); while read line; do echo \"<$line>\"; done'";

#[test]
fn program_reads_the_terminal_and_gives_it_back() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {} -- {ECHO}; echo status=$?", unique("read")));
    session.expect("ready-2");
    session.enter("hello");
    session.expect("<hello>");
    session.press("\u{4}");
    session.expect("status=0");
    session.enter("echo back-$((1+1))");
    session.expect("back-2");
}

#[test]
fn ctrl_c_reaches_the_program_and_sets_status() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let program =
        "sh -c 'trap \"echo caught-\\$((1+1)); exit 9\" INT; echo ready-$((1+1)); while :; do sleep 0.01; done'";
    session.enter(&format!("$RLOCK run {} -- {program}; echo status=$?", unique("interrupt")));
    session.expect("ready-2");
    session.press("\u{3}");
    session.expect("caught-2");
    session.expect("status=9");
}

#[test]
fn ctrl_z_stops_and_fg_continues_the_program() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("suspend");
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {name} -- {ECHO}"));
    session.expect("ready-2");
    for round in 0..3 {
        session.press("\u{1a}");
        session.expect("Stopped");
        session.enter(&format!("echo {round}-shell-$((1+1))"));
        session.expect(&format!("{round}-shell-2"));
        assert!(observer.holder(&name).is_some());
        session.enter("fg");
        session.expect("continued");
        session.enter(&format!("{round}"));
        session.expect(&format!("<{round}>"));
    }
    session.press("\u{4}");
    session.expect("released");
    session.enter("echo status=$?");
    session.expect("status=0");
}

/// The news of the stop and of the loss reach `rlock` together.
#[test]
fn stop_with_a_lost_lock_stops_no_job() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let name = unique("stopped");
    std::fs::write(folder.path("job"), folder.script("echo $$ > $D/pid; exec sleep 600")).unwrap();
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {name} --ttl 4s -- sh {}", folder.path("job").display()));
    let program = folder.wait_for_process("pid");
    let rlock = Process::from(parent_of(parent_of(program.pid())));
    kill(rlock.pid(), Signal::SIGSTOP).unwrap();
    session.expect("Stopped");
    killpg(program.pid(), Signal::SIGSTOP).unwrap();
    until("the end of the lease", || observer.look(&name).is_free().then_some(()));
    assert!(!program.is_alive());
    session.enter("fg; echo status=$?");
    session.expect("status=76");
}

#[test]
fn background_program_gets_the_terminal_with_fg() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {} -- {ECHO} &", unique("background")));
    session.expect("ready-2");
    session.expect("stopped");
    session.expect("Stopped");
    session.enter("fg");
    session.expect("continued");
    session.enter("hello");
    session.expect("<hello>");
    session.press("\u{4}");
    session.expect("released");
    session.enter("echo status=$?");
    session.expect("status=0");
}

#[test]
fn ctrl_z_without_a_shell_changes_nothing() {
    let server = Server::start();
    let program = env!("CARGO_BIN_EXE_rlock");
    let echo = "echo ready-$((1+1)); while read line; do echo \"<$line>\"; done";
    let mut session = Session::start(&server, &[program, "run", &unique("alone"), "--", "sh", "-c", echo]);
    session.expect("ready-2");
    session.press("\u{1a}");
    session.expect("continued");
    session.enter("hello");
    session.expect("<hello>");
    session.press("\u{4}");
    session.expect("released");
}

#[test]
fn pager_behind_a_pipe_reads_keys() {
    let server = Server::start();
    let folder = Folder::new();
    // `exec`, because a shell that shares its memory with a stopped child does not stop itself.
    std::fs::write(folder.path("job"), folder.script("mkfifo $D/end; echo line; exec cat $D/end")).unwrap();
    let pager = "read line; echo shows-$((1+1)); read key < /dev/tty; echo \"<$key>\"; read key < /dev/tty; cat";
    std::fs::write(folder.path("pager"), pager).unwrap();
    let (job, pager) = (folder.path("job"), folder.path("pager"));
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {} -- sh {} | sh {}", unique("pager"), job.display(), pager.display()));
    session.expect("shows-2");
    session.enter("first");
    session.expect("<first>");
    session.press("\u{1a}");
    session.expect("Stopped");
    session.enter("fg");
    session.expect("continued");
    std::fs::write(folder.path("end"), "").unwrap();
    session.expect("released");
    session.enter("second");
    session.enter("echo status=$?");
    session.expect("status=0");
}

#[test]
fn program_with_other_input_gets_the_terminal() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let program = "sh -c 'echo ready-$((1+1)); read key < /dev/tty; echo \"<$key>\"; cat'";
    session.enter(&format!("echo piped-$((1+1)) | $RLOCK run {} -- {program}; echo status=$?", unique("asks")));
    session.expect("ready-2");
    session.enter("secret");
    session.expect("<secret>");
    session.expect("piped-2");
    session.expect("status=0");
    session.enter("echo back-$((1+1))");
    session.expect("back-2");
}

#[test]
fn terminal_of_a_killed_program_is_restored() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let program = "sh -c 'stty raw -echo; echo ready-$((1+1)); kill -KILL $$'";
    session.enter(&format!("$RLOCK run {} -- {program}; stty -a | grep -ow -e -icanon -e icanon", unique("raw")));
    session.expect("ready-2");
    session.expect("released");
    let modes = session.expect("icanon");
    assert!(!modes.ends_with("-icanon"), "{modes}");
}

#[test]
fn waiter_at_a_terminal_sees_holder_and_place() {
    let server = Server::start();
    let name = unique("watched");
    let mut holder = Rlock::on(&server, &["run", &name, "--label", "night shift", "--", "cat"]);
    holder.hear("acquired");
    let mut session = Session::start(&server, &[env!("CARGO_BIN_EXE_rlock"), "run", &name, "--", "true"]);
    session.expect("(night shift)");
    session.expect("place 1 of 1, held by");
    holder.exit().assert(0, &["released"]);
    session.expect("\r\x1b[Krlock: acquired");
    session.expect("released");
}

#[test]
fn watch_shows_changes_and_restores_the_screen() {
    let server = Server::start();
    let name = unique("watched");
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK watch {name} --interval 100ms"));
    session.expect("no lock is held or waited for");
    let mut holder = Rlock::on(&server, &["run", &name, "--label", "night shift", "--", "cat"]);
    holder.hear("acquired");
    session.expect("██████████");
    session.expect("(night shift)");
    holder.exit().assert(0, &["released"]);
    session.expect("no lock is held or waited for");
    session.press("\u{1a}");
    session.expect("\x1b[?1049l");
    session.expect("Stopped");
    session.enter("fg");
    session.expect("\x1b[?1049h");
    session.press("q");
    session.expect("\x1b[?1049l");
    session.expect("% ");
    session.enter("echo back-$((1+1))");
    session.expect("back-2");
    session.enter(&format!("$RLOCK watch {name}"));
    session.expect("no lock is held or waited for");
    session.press("\u{3}");
    session.expect("\x1b[?1049l");
    session.expect("% ");
    session.enter("stty -a | grep -ow -e -icanon -e icanon | tr a-z A-Z");
    let modes = session.expect("ICANON");
    assert!(!modes.ends_with("-ICANON"), "{modes}");
}

#[test]
fn break_is_confirmed_for_the_shown_holder() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let name = unique("confirmed");
    let hold = |label: &str| {
        let mut holder = Rlock::on(&server, &["run", &name, "--label", label, "--", "cat"]);
        holder.hear("acquired");
        holder
    };
    let first = hold("day shift");
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK break {name}"));
    session.expect("(day shift)");
    session.expect("[y/N]");
    first.exit().assert(0, &["released"]);
    let second = hold("night shift");
    session.enter("y");
    session.expect("(night shift)");
    session.expect("[y/N]");
    session.enter("n");
    session.expect("was left as it is");
    assert!(observer.holder(&name).is_some());
    second.exit().assert(0, &["released"]);
}

#[test]
fn every_ctrl_c_reaches_the_program() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let program = "sh -c 'trap \"trap \\\"exit 9\\\" INT; echo first-\\$((1+1))\" INT; echo ready-$((1+1)); while :; do sleep 0.01; done'";
    session.enter(&format!("$RLOCK run {} -- {program}; echo status=$?", unique("twice")));
    session.expect("ready-2");
    session.press("\u{3}");
    session.expect("first-2");
    session.press("\u{3}");
    session.expect("released");
    session.expect("status=9");
}

#[test]
fn ctrl_c_ends_a_loop_of_the_shell() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let name = unique("loop");
    session.enter(&format!("for i in 1 2 3; do $RLOCK run {name} -- sh -c \"echo turn-$i; exec sleep 600\"; done"));
    session.expect("turn-1");
    session.press("\u{3}");
    session.expect("released");
    session.enter("echo back-$((1+1))");
    let screen = session.expect("back-2");
    assert!(!screen.contains("turn-2"), "{screen}");
}

#[test]
fn ctrl_c_ends_the_wait() {
    let server = Server::start();
    let name = unique("impatient");
    let mut holder = Rlock::on(&server, &["run", &name, "--", "cat"]);
    holder.hear("acquired");
    let mut session = Session::shell(&server);
    session.enter(&format!("$RLOCK run {name} -- echo ran; echo status=$?"));
    session.expect("waiting for");
    session.press("\u{3}");
    session.expect("stopped by SIGINT while waiting for");
    session.enter("echo status=$?");
    session.expect("status=130");
    holder.exit().assert(0, &["released"]);
}

#[test]
fn closed_terminal_ends_program_and_lock() {
    let server = Server::start();
    let observer = Observer::of(&server);
    let folder = Folder::new();
    let job = folder.path("job");
    std::fs::write(&job, folder.script("echo $$ > $D/pid; exec sleep 600")).unwrap();
    for has_shell in [true, false] {
        let name = unique("closed");
        let arguments = ["run", &name, "--ttl", "1h", "--", "sh", job.to_str().unwrap()];
        let mut session = if has_shell {
            let mut session = Session::shell(&server);
            session.enter(&format!("$RLOCK {}", arguments.join(" ")));
            session
        } else {
            Session::start(&server, &[&[env!("CARGO_BIN_EXE_rlock")], &arguments[..]].concat())
        };
        let program = folder.wait_for_process("pid");
        assert!(observer.holder(&name).is_some());
        session.close();
        program.wait_until_dead();
        until("a free lock", || observer.holder(&name).is_none().then_some(()));
        std::fs::remove_file(folder.path("pid")).unwrap();
    }
}

#[test]
fn full_screen_program_gets_keys_and_size() {
    let server = Server::start();
    let mut session = Session::shell(&server);
    let read_key = "dd bs=1 count=1 2>/dev/null | od -An -to1";
    let program = format!(
        "sh -c 'trap \"stty size\" WINCH; stty raw -echo; printf \"\\033[?1049hready-$((1+1))\"; {read_key}; {read_key}; \
         while ! [ \"$(stty size)\" = \"33 99\" ]; do sleep 0.01; done; echo wide-$((1+1)); stty sane'"
    );
    session.enter(&format!("$RLOCK run {} -- {program}; echo status=$?", unique("screen")));
    session.expect("\x1b[?1049hready-2");
    session.press("\u{3}");
    session.expect("003");
    session.press("\u{1a}");
    session.expect("032");
    session.resize(33, 99);
    session.expect("wide-2");
    session.expect("status=0");
}

#[test]
fn help_has_colours_only_on_a_terminal() {
    let server = Server::start();
    for (environment, is_coloured) in [("-u NO_COLOR", true), ("NO_COLOR=1", false)] {
        let mut session = Session::shell(&server);
        session.enter(&format!("env {environment} TERM=xterm $RLOCK run --help | cat; env {environment} TERM=xterm $RLOCK run --help; echo end-$((1+1))"));
        let screen = session.expect("end-2");
        let (piped, shown) = screen.split_at(screen.rfind("Takes a lock, runs").expect("the help twice"));
        assert!(!piped.contains("\x1b[1m"), "{piped}");
        assert_eq!(shown.contains("\x1b[1m"), is_coloured, "{shown}");
    }
}
