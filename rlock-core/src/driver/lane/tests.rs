//! Requests in lanes, without calls.

use super::*;

const NOW: Moment = Moment::from_nanos(0);
const ROUND_TRIP: Option<Duration> = Some(Duration::from_millis(1));

const WORTH_A_CALL: usize = 16;

fn lane(max: usize) -> Lane<usize> {
    Lane::new(Shares { worth_a_call: WORTH_A_CALL, max })
}

/// A new worker with its first batch.
fn start(lane: &Lane<usize>) -> Option<(Arc<Worker>, Vec<usize>)> {
    match lane.start()? {
        Start::New(worker) => {
            let mut batch = Vec::new();
            assert!(lane.first(&worker, &mut batch), "requests wait");
            Some((worker, batch))
        }
        Start::Woken => panic!("no worker is idle"),
    }
}

#[test]
fn requests_of_one_moment_go_together() {
    let lane = lane(256);
    assert!(lane.is_quiet());
    lane.push(0);
    assert!(!lane.is_quiet(), "a new request does not overtake the queue");
    let Some(Start::New(worker)) = lane.start() else { panic!("no worker is idle") };
    (1..4).for_each(|request| lane.push(request));
    assert!(lane.start().is_none(), "one worker is on its way");
    let mut batch = Vec::new();
    assert!(lane.first(&worker, &mut batch));
    assert_eq!(batch, [0, 1, 2, 3]);
    assert!(!lane.is_quiet(), "its call is under way");
    assert!(!lane.next(&worker, NOW, ROUND_TRIP, &mut batch));
    assert!(lane.is_quiet());
}

#[test]
fn requests_queued_at_once_go_together() {
    let lane = lane(256);
    lane.push_all(0..3);
    let (_worker, batch) = start(&lane).expect("there is room");
    assert_eq!(batch, [0, 1, 2]);
    assert!(lane.start().is_none(), "none is left");
}

#[test]
fn each_thread_starts_a_worker_of_its_own() {
    let lane = lane(256);
    lane.push(0);
    assert!(lane.start().is_some() && lane.start().is_none());
    let elsewhere = || {
        lane.push(1);
        lane.start().is_some()
    };
    assert!(std::thread::scope(|scope| scope.spawn(elsewhere).join().expect("it ends")));
}

#[test]
fn request_does_not_wait_for_other_answers() {
    let lane = lane(256);
    lane.push(0);
    let (_first, batch) = start(&lane).expect("there is room");
    assert_eq!(batch, [0]);
    lane.push(1);
    assert_eq!(start(&lane).expect("there is room for another").1, [1]);
}

#[test]
fn requests_beyond_the_window_wait() {
    let lane = lane(3);
    let mut workers = Vec::new();
    for request in 0.. {
        lane.push(request);
        let Some(started) = start(&lane) else { break };
        workers.push(started.0);
    }
    (0..4).for_each(|request| lane.push(100 + request));
    let mut batch = Vec::new();
    assert!(lane.next(&workers[0], NOW, ROUND_TRIP, &mut batch));
    assert_eq!(batch.len(), 3, "as many as go together");
    assert!(lane.next(&workers[1], NOW, ROUND_TRIP, &mut batch));
    assert_eq!(batch[3..], [102, 103]);
    assert!(!lane.next(&workers[2], NOW, ROUND_TRIP, &mut batch), "the worker is idle");
}

#[test]
fn many_requests_are_shared_among_the_calls() {
    let lane = lane(1000);
    (0..320).for_each(|request| lane.push(request));
    let shares: Vec<usize> = std::iter::from_fn(|| start(&lane)).map(|(_, batch)| batch.len()).collect();
    assert_eq!((shares[0], shares.len()), (20, 16), "{shares:?}");
    assert!(shares.iter().all(|share| *share >= WORTH_A_CALL), "{shares:?}");
}

#[test]
fn idle_worker_is_used_again() {
    let lane = lane(10);
    lane.push(1);
    let (worker, mut batch) = start(&lane).expect("there is room");
    assert!(!lane.next(&worker, NOW, ROUND_TRIP, &mut batch));
    lane.push(2);
    assert!(matches!(lane.start(), Some(Start::Woken)));
    assert!(lane.first(&worker, &mut batch));
    assert_eq!(batch, [1, 2]);
}

#[test]
fn worker_that_comes_too_late_is_idle() {
    let lane = lane(10);
    lane.push(1);
    let (first, mut batch) = start(&lane).expect("there is room");
    lane.push(2);
    let Some(Start::New(second)) = lane.start() else { panic!("no worker is idle") };
    assert!(lane.next(&first, NOW, ROUND_TRIP, &mut batch), "the first takes the request");
    assert!(!lane.first(&second, &mut batch));
    assert!(!lane.next(&first, NOW, ROUND_TRIP, &mut batch));
    assert!(lane.is_quiet());
}

#[test]
fn surplus_workers_end() {
    let lane = lane(10);
    let idle = || {
        lane.push(1);
        let (worker, mut batch) = start(&lane).expect("there is room");
        lane.is_stuck();
        (worker, std::mem::take(&mut batch))
    };
    let workers: Vec<_> = (0..=Window::MAX).map(|_| idle()).collect();
    for (worker, mut batch) in workers.iter().cloned() {
        lane.is_back();
        assert!(!lane.next(&worker, NOW, None, &mut batch));
    }
    let surplus: Vec<bool> = workers.iter().map(|(worker, _)| worker.is_surplus()).collect();
    assert_eq!(surplus.iter().filter(|surplus| **surplus).count(), 1);
    assert!(surplus[Window::MAX], "the last one");
}

#[test]
fn stuck_calls_delay_no_others() {
    let lane = lane(10);
    while lane.under_way.load(Ordering::Relaxed) < Window::START {
        lane.push(0);
        start(&lane).expect("there is room");
    }
    lane.push(0);
    assert!(start(&lane).is_none());
    lane.is_stuck();
    assert!(start(&lane).is_some() && start(&lane).is_none());
}

#[test]
fn few_requests_share_calls_beside_stuck_ones() {
    let lane = Lane::new(Shares { worth_a_call: 1000, max: 1000 });
    (0..100).for_each(|request| lane.push(request));
    assert_eq!(start(&lane).expect("there is room").1.len(), 100);
    lane.is_stuck();
    (0..100).for_each(|request| lane.push(request));
    assert_eq!(start(&lane).expect("there is room").1.len(), FEW);
    lane.is_back();
    assert_eq!(start(&lane).expect("there is room").1.len(), 100 - FEW);
}

#[test]
fn repeated_requests_limit_their_call() {
    let lane = lane(256);
    [4, 2, 2, 1, 4].into_iter().enumerate().for_each(|(request, most)| lane.push_among(request, most));
    let calls: Vec<Vec<usize>> = std::iter::from_fn(|| start(&lane)).map(|(_, batch)| batch).collect();
    assert_eq!(calls, [vec![0, 1], vec![2], vec![3], vec![4]]);
}

#[test]
fn many_repeated_requests_share_calls() {
    let lane = lane(1000);
    let most = 4 * FEW * Window::START;
    (0..most).for_each(|request| lane.push_among(request, 1));
    assert_eq!(start(&lane).expect("there is room").1.len(), 4);
}
