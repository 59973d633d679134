//! Draws faults at random, each of them in turn.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::mishap::Mishap;

/// Faults in random order: each is drawn once before any is drawn again, so that a short run has all of them.
#[derive(Debug)]
pub(super) struct Deck<'a> {
    all: &'a [Mishap],
    left: Vec<Mishap>,
}

impl<'a> Deck<'a> {
    pub(super) fn new(all: &'a [Mishap]) -> Self {
        Self { all, left: Vec::new() }
    }

    /// The next fault; `None` if there is no kind of fault.
    pub(super) fn draw(&mut self, chance: &mut StdRng) -> Option<Mishap> {
        if self.left.is_empty() {
            self.left = self.all.to_vec();
        }
        (!self.left.is_empty()).then(|| self.left.swap_remove(chance.random_range(0..self.left.len())))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn each_fault_comes_before_any_returns() {
        let mut chance = StdRng::seed_from_u64(1);
        let mut deck = Deck::new(&Mishap::ALL);
        for _ in 0..20 {
            let drawn: BTreeSet<Mishap> = (0..Mishap::ALL.len()).filter_map(|_| deck.draw(&mut chance)).collect();
            assert_eq!(drawn.len(), Mishap::ALL.len(), "{drawn:?}");
        }
        assert_eq!(Deck::new(&[]).draw(&mut chance), None);
    }
}
