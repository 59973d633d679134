//! Random numbers from a seed, so that a run can be repeated.

use std::env;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const SEED: &str = "RLOCK_TEST_SEED";

/// Random numbers from the seed in `RLOCK_TEST_SEED`. Without it, a new seed is drawn and printed.
pub(crate) fn chance() -> StdRng {
    let seed = match env::var(SEED) {
        Ok(seed) => seed.parse().unwrap_or_else(|_| panic!("{SEED}={seed}: not a number of 64 bits")),
        Err(_) => rand::random(),
    };
    println!("{SEED}={seed}");
    StdRng::seed_from_u64(seed)
}

/// A random duration up to `longest`.
pub(crate) fn up_to(longest: Duration, chance: &mut StdRng) -> Duration {
    longest.mul_f64(chance.random_range(0.0..1.0))
}
