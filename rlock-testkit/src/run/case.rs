//! A case, its rule, and its failure.

use std::fmt;

/// A case, and the rule that it checks.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The name of the backend in the tests.
    pub backend: &'static str,
    /// The `module_path!()` of the test.
    pub module: &'static str,
    /// The name of the case, and of its test function.
    pub name: &'static str,
    /// The rule that is broken if the case fails.
    pub rule: Rule,
}

/// A case, with the function that runs it on a store.
#[derive(Debug, Clone, Copy)]
pub struct Runnable {
    pub(crate) case: Case,
    pub(crate) run: fn(Case) -> Result<(), Broken>,
}

impl Runnable {
    /// The case.
    pub fn case(&self) -> &Case {
        &self.case
    }

    /// Runs the case on a new runtime, and returns when it has ended.
    ///
    /// # Errors
    ///
    /// [`Broken`] if the case panics, or takes longer than [`LIMIT`](super::LIMIT).
    pub fn run(&self) -> Result<(), Broken> {
        (self.run)(self.case)
    }
}

/// The rule that a case checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The capabilities that the backend declares.
    Declared,
    /// A rule of the contract, numbered as on [`Backend`](rlock_core::Backend).
    Contract(u8),
    /// A promise to the holder of a lock, by its number: 1 the deadline is conservative and local, 2 a loss is signalled
    /// by the deadline, 3 a short outage loses nothing, 4 cancelling is safe, 5 dropping a guard releases the lock, 6 the
    /// watchdog does not depend on the caller's runtime, 7 work can be tied to the lock.
    Promise(u8),
    /// The answers of the reference backend.
    Reference,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declared => f.write_str("declared capabilities"),
            Self::Contract(number) => write!(f, "contract rule {number}"),
            Self::Promise(number) => write!(f, "promise {number} to the holder"),
            Self::Reference => f.write_str("the reference backend's answers"),
        }
    }
}

/// A case that failed: `[contract rule 4] redis, foreign_release_does_nothing: ...`.
#[derive(Debug, Clone)]
pub struct Broken {
    pub(super) case: Case,
    pub(super) what: String,
}

impl Broken {
    /// The panic message of the case.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}, {}: {}", self.case.rule, self.case.backend, self.case.name, self.what)
    }
}

impl std::error::Error for Broken {}
