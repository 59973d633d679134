//! The measurements, one file each.

mod contention;
mod counters;
mod cpu;
mod cycle;
mod drift;
mod hand_over;
mod queue;
mod renewal;
mod round_trip;

pub(super) use contention::contention;
pub(super) use cpu::cpu;
pub(super) use cycle::{cycle, pair};
pub(super) use drift::drift;
pub(super) use hand_over::hand_over;
pub(super) use queue::queue;
pub(super) use renewal::renewal;
pub(super) use round_trip::round_trip;
