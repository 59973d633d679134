//! The best number of requests under way for a store.

use std::time::Duration;

use crate::clock::Moment;

/// The number of requests under way, adapted to the store as TCP Vegas adapts its window (Brakmo and Peterson, 1995).
///
/// The shortest round trip is that of an idle store. The fraction of a round trip beyond the shortest one is the
/// fraction of our requests that wait in a queue at the store. If fewer than [`FEW`](Self::FEW) wait there, one more
/// request under way increases the throughput. If more than [`MANY`](Self::MANY) wait there, one more would only wait
/// too. It should wait in the client instead, and travel together with others.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    shortest: Duration,
    /// The shortest round trip since `renewed`. It replaces an older one from time to time.
    recent: Duration,
    renewed: Moment,
    /// The answers since the last change that voted for a larger window, less those that voted for a smaller one.
    votes: isize,
}

impl Window {
    pub(super) const MIN: usize = 3;
    pub(super) const MAX: usize = 64;
    pub(super) const START: usize = 16;
    const FEW: f64 = 2.0;
    const MANY: f64 = 4.0;
    /// The time after which a permanently slower store is recognized.
    const RENEWAL: Duration = Duration::from_secs(10);

    pub(super) fn new() -> Self {
        let longest = Duration::MAX;
        Self { size: Self::START, shortest: longest, recent: longest, renewed: Moment::default(), votes: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// The shortest recent round trip, if there was one.
    pub(super) fn shortest(&self) -> Option<Duration> {
        (self.shortest < Duration::MAX).then_some(self.shortest)
    }

    /// Records an answer after `round_trip`, when `under_way` requests were under way. `is_full`: other requests waited
    /// for their turn.
    pub(super) fn answered(&mut self, now: Moment, round_trip: Duration, under_way: usize, is_full: bool) {
        let round_trip = round_trip.max(Duration::from_nanos(1));
        self.recent = self.recent.min(round_trip);
        self.shortest = self.shortest.min(round_trip);
        if now.since(self.renewed) >= Self::RENEWAL {
            self.shortest = std::mem::replace(&mut self.recent, round_trip);
            self.renewed = now;
        }
        if !is_full && under_way as f64 <= Self::MANY {
            return; // this answer casts no vote
        }
        let waiting_share = 1.0 - self.shortest.as_secs_f64() / round_trip.as_secs_f64();
        let queued = waiting_share * under_way as f64;
        if queued > Self::MANY {
            self.votes -= 1;
        } else if is_full && queued < Self::FEW {
            self.votes += 1;
        }
        if self.votes.unsigned_abs() >= self.size {
            let size = if self.votes > 0 { self.size + 1 } else { self.size - 1 };
            self.size = size.clamp(Self::MIN, Self::MAX);
            self.votes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window after many answers of a store that serves one request at a time in `service`, at the distance `away`.
    fn final_size(service: Duration, away: Duration) -> usize {
        let mut window = Window::new();
        window.answered(Moment::default(), away + service, 1, false);
        for _ in 0..10_000 {
            let under_way = window.size();
            let round_trip = (away + service).max(service * u32::try_from(under_way).expect("it is small"));
            window.answered(Moment::default(), round_trip, under_way, true);
        }
        window.size()
    }

    #[test]
    fn window_fills_the_way_to_the_store() {
        let micros = Duration::from_micros;
        let serial = final_size(micros(1_000), micros(0));
        assert!(serial <= 5, "a store that works on one request at a time: {serial}");
        let pipelined = final_size(micros(10), micros(90));
        assert!((11..=15).contains(&pipelined), "ten requests fill the way: {pipelined}");
        assert_eq!(final_size(micros(1), micros(10_000)), Window::MAX, "a store far away");
    }

    #[test]
    fn slower_store_becomes_the_norm() {
        let (mut window, mut now) = (Window::new(), Moment::default());
        window.answered(now, Duration::from_micros(50), 1, false);
        for _ in 0..10_000 {
            now = now.after(Duration::from_millis(10));
            window.answered(now, Duration::from_millis(5), 8, true);
        }
        assert_eq!(window.size(), Window::MAX, "five milliseconds are the idle round trip now");
    }

    #[test]
    fn idle_client_keeps_its_window() {
        let mut window = Window::new();
        for _ in 0..1_000 {
            window.answered(Moment::default(), Duration::from_micros(50), 1, false);
        }
        assert_eq!(window.size(), Window::START);
    }
}
