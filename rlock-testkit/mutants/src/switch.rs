//! The mutant of this process.

use std::env;

/// The environment variable that names the mutant.
pub const SWITCH: &str = "RLOCK_MUTANT";

/// A mistake in a copied source.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// The mistake, as a sentence.
    pub name: &'static str,
    /// The cases that have to catch it.
    pub cases: &'static [&'static str],
}

/// The name of the mutant in the environment, which has to be one of `known`; empty for the original.
pub(crate) fn switched_on(known: impl IntoIterator<Item = &'static Mutant>) -> &'static str {
    match env::var(SWITCH) {
        Ok(name) if !name.is_empty() => {
            let known = known.into_iter().find(|mutant| mutant.name == name);
            known.unwrap_or_else(|| panic!("{SWITCH}={name}: there is no such mutant")).name
        }
        _ => "",
    }
}
