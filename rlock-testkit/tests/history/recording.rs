//! Recorded entries are read back unchanged.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;

use rlock_core::LossReason;
use rlock_testkit::history::{Entry, History, HistoryError, Op, Recorder, Register, Stale, What, now};
use rlock_testkit::peer::resource;

use crate::{A, ALLOWED, B, asked_for, at, believed, granted, job, lost, ms, opened, released, releasing, wrote};

fn one_of_each() -> Vec<Entry> {
    let named = |name| What::Asked { op: B, resource: resource(name), share: rlock_core::Share::EXCLUSIVE };
    let whats = [
        asked_for(A, 2, 3),
        named("  a name with  spaces, \u{2028} and \u{e9} "),
        granted(A, u64::MAX, 1),
        believed(A, 2),
        What::Refused { op: B },
        What::Unknown { op: B },
        lost(A, LossReason::Broken, 3),
        What::Lost { op: A, reason: LossReason::GaveUp, until: None },
        lost(A, LossReason::Expired, 3),
        lost(A, LossReason::Gone, 3),
        lost(A, LossReason::Shutdown, 3),
        lost(A, LossReason::TakenOver, 3),
        releasing(A),
        released(A),
        What::Released { op: A, known: false },
        opened(A, 1, 2),
        What::OpenRefused { op: A, resource: job(), token: 1 },
        wrote(A, 1, 2, 3),
        What::WriteRefused { op: A, resource: job(), token: 1 },
        What::Breaking { resource: resource("a b") },
        What::Died { process: 1 },
        What::Frozen { process: 2 },
        What::Woken { process: 3 },
        What::Starved { process: 3, since: ms(2) },
        What::Down,
        What::Up,
        What::Split { since: ms(2), until: ms(3) },
        What::End,
    ];
    whats.into_iter().zip(1..).map(|(what, millis)| at(millis, what)).collect()
}

#[test]
fn each_kind_of_entry_survives_a_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::in_folder(folder.path(), 7).unwrap();
    for Entry { at, what } in one_of_each() {
        recorder.note_at(at, what);
    }
    assert_eq!(recorder.entries().unwrap(), one_of_each());
    assert_eq!(History::read(folder.path()).unwrap().entries(), one_of_each());
}

#[test]
fn files_of_processes_merge_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [1, 2].map(|process| Recorder::in_folder(folder.path(), process).unwrap());
    std::fs::write(folder.path().join("server.log"), "no entry").unwrap();
    first.note_at(ms(2), What::Up);
    first.note_at(ms(4), What::End);
    second.note_at(ms(3), What::Died { process: 9 });
    second.note_at(ms(1), What::Down);
    let history = History::read(folder.path()).unwrap();
    let expected = [at(1, What::Down), at(2, What::Up), at(3, What::Died { process: 9 }), at(4, What::End)];
    assert_eq!(history.entries(), expected);
}

#[test]
fn truncated_line_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::in_folder(folder.path(), 1).unwrap();
    recorder.note_at(ms(1), What::Down);
    let mut file = OpenOptions::new().append(true).open(folder.path().join("1.history")).unwrap();
    file.write_all("0.002000000 u\u{e9}".as_bytes()).unwrap();
    assert_eq!(recorder.entries().unwrap(), [at(1, What::Down)]);

    let again = Recorder::in_folder(folder.path(), 1).unwrap();
    again.note_at(ms(3), What::End);
    assert_eq!(again.entries().unwrap(), [at(1, What::Down), at(3, What::End)]);
}

#[test]
fn invalid_line_is_an_error_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["0.002000000 upside down", "0.002000000 up 1", "0.2 up", "0.002000000 wrote p1#1 2 3", "", "up"] {
        std::fs::write(folder.path().join("1.history"), format!("0.001000000 up\n{line}\n0.003000000 end\n")).unwrap();
        let error = History::read(folder.path()).unwrap_err();
        assert!(matches!(&error, HistoryError::Line { number: 2, text, .. } if text == line), "{line:?}: {error}");
    }
}

#[test]
fn process_that_starts_again_asks_under_new_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::in_folder(folder.path(), 5).unwrap();
    let ops = [recorder.op(), recorder.op()];
    assert_eq!(ops.map(|op| op.to_string()), ["p5#0", "p5#1"]);
    for op in ops {
        recorder.note(asked_for(op, 1, 1));
    }
    recorder.note(What::Refused { op: Op { process: 6, sequence: 99 } });
    assert_eq!(Recorder::in_folder(folder.path(), 5).unwrap().op(), Op { process: 5, sequence: 2 });
}

#[test]
fn threads_record_whole_lines() {
    let folder = tempfile::tempdir().unwrap();
    let recorder = Recorder::in_folder(folder.path(), 1).unwrap();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    recorder.clone().note(asked_for(recorder.op(), 1, 1));
                }
            });
        }
    });
    assert_eq!(History::read(folder.path()).unwrap().entries().len(), 1600);
}

#[test]
fn instants_are_those_of_the_note() {
    let recorder = Recorder::in_memory(1);
    let before = now();
    recorder.note(What::Down);
    let [entry] = &recorder.entries().unwrap()[..] else { panic!("there was one note") };
    assert!(before <= entry.at && entry.at <= now());
}

#[test]
fn history_that_makes_no_sense_is_an_error() {
    let asked = || at(0, asked_for(A, 1, 1));
    let error = History::new([asked(), asked()]).unwrap_err();
    assert!(matches!(error, HistoryError::AskedTwice { op: A }), "{error}");
    let error = History::new([asked(), at(1, granted(B, 1, 2))]).unwrap_err();
    assert!(matches!(error, HistoryError::NeverAsked { op: B }), "{error}");
    let error = History::new([asked(), at(1, granted(A, 1, 2)), at(2, granted(A, 2, 3))]).unwrap_err();
    assert!(matches!(error, HistoryError::GrantedTwice { op: A }), "{error}");
}

#[test]
fn register_refuses_smaller_tokens() {
    let recorder = Recorder::in_memory(0);
    let register = Register::new(recorder.clone());
    let other = resource("other");
    assert_eq!(register.open(A, &job(), 1), Ok(0));
    assert_eq!(register.write(A, &job(), 1, 0, 5), Ok(()));
    assert_eq!(register.open(B, &job(), 2), Ok(5));
    assert_eq!(register.write(A, &job(), 1, 5, 6), Err(Stale { token: 1, greatest: 2 }));
    assert_eq!(register.open(A, &job(), 1), Err(Stale { token: 1, greatest: 2 }));
    assert_eq!(register.write(B, &job(), 2, 5, 7), Ok(()));
    assert_eq!(register.open(A, &other, 1), Ok(0));

    let noted: Vec<What> = recorder.entries().unwrap().into_iter().map(|entry| entry.what).collect();
    let expected = [
        opened(A, 1, 0),
        wrote(A, 1, 0, 5),
        opened(B, 2, 5),
        What::WriteRefused { op: A, resource: job(), token: 1 },
        What::OpenRefused { op: A, resource: job(), token: 1 },
        wrote(B, 2, 5, 7),
        What::Opened { op: A, resource: other, token: 1, value: 0 },
    ];
    assert_eq!(noted, expected);
}

#[test]
fn register_notes_in_the_order_of_its_acts() {
    let recorder = Recorder::in_memory(0);
    let register = Register::new(recorder.clone());
    thread::scope(|scope| {
        for process in 1..5 {
            let register = &register;
            scope.spawn(move || {
                for round in 0..200 {
                    let (op, token) = (Op { process, sequence: round }, round * 4 + u64::from(process));
                    let Ok(value) = register.open(op, &job(), token) else { continue };
                    let _refused = register.write(op, &job(), token, value, value + 1);
                }
            });
        }
    });
    let ops = (1..5).flat_map(|process| (0..200).map(move |sequence| Op { process, sequence }));
    let asked = ops.map(|op| at(0, asked_for(op, 1, 1)));
    let counts = History::new(asked.chain(recorder.entries().unwrap())).unwrap().check(ALLOWED).into_result();
    let counts = counts.unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(counts.opens + counts.refused_opens, 800);
}
