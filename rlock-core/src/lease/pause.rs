//! Pauses between tries.

use std::time::Duration;

/// Returns the pause before the next try of a request that failed `tries` times in a row. The pause starts at `first`
/// and doubles each time up to `most`. It is shortened by up to a half, depending on `seed`, so clients that failed
/// together do not retry together.
pub(super) fn pause(seed: u64, tries: u32, first: Duration, most: Duration) -> Duration {
    let longest = first.saturating_mul(1 << tries.min(16)).min(most);
    longest.mul_f64(0.5 + 0.5 * fraction(seed, tries))
}

/// A number from 0 to 1 that looks random, by the mixing function of SplitMix64 (Steele, Lea and Flood, 2014).
pub(super) fn fraction(seed: u64, salt: u32) -> f64 {
    let mut mixed = seed.wrapping_add(u64::from(salt).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let bits = u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits");
    f64::from(bits) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_keep_half() {
        let (first, most) = (Duration::from_millis(10), Duration::from_millis(60));
        for (tries, longest) in [(0, 10), (1, 20), (2, 40), (3, 60), (40, 60)] {
            let longest = Duration::from_millis(longest);
            for seed in 0..100 {
                let pause = pause(seed, tries, first, most);
                assert!(pause <= longest && pause >= longest / 2, "{pause:?} after {tries} tries");
            }
        }
    }

    #[test]
    fn fractions_of_many_leases_are_spread() {
        let above = (0..1000).filter(|&seed| fraction(seed, 0) > 0.5).count();
        assert!((400..600).contains(&above), "{above} of 1,000");
    }
}
