//! Makes tests of the cases.

use crate::Harness;
use crate::run::{Case, Rule, Runnable};

/// Runs the cases that need only a store with a queue and push, such as a store in production. Their output calls it
/// `backend`. As with the macro, each can be run by itself, on any thread.
pub fn cases_for<H: Harness>(backend: &'static str) -> Vec<Runnable> {
    crate::__cases!(__table [backend H] [processes network control rest data])
}

/// Makes a test of every conformance case, in a module named after the backend: `redis::fifo_across_clients`.
///
/// ```no_run
/// use rlock_testkit::MemoryHarness;
///
/// rlock_testkit::conformance!(memory: MemoryHarness, without(processes, network, control));
/// # fn main() {}
/// ```
///
/// The harness has to implement [`Shared`](crate::Shared) and [`Controlled`](crate::Controlled) beside
/// [`Harness`](crate::Harness), unless `without` leaves out the cases that need them:
///
/// - `queue`, `push`, `rest`, `data`: the [`Capabilities`](rlock_core::Capabilities) of the backend declare that it has
///   none. The list and the declaration have to agree.
/// - `processes`: other processes cannot reach the store.
/// - `network`: clients do not reach the store by TCP.
/// - `cost`: the cost of an operation grows with history, or with the number of holders or waiters. Without `network`,
///   cost is not measured.
/// - `control`: the server cannot be paused, killed and restarted, or loses its data then.
///
/// A case that is left out does not exist; none is skipped at run time.
#[macro_export]
macro_rules! conformance {
    ($backend:ident: $harness:ty) => {
        $crate::conformance!($backend: $harness, without());
    };
    ($backend:ident: $harness:ty, without($($left_out:ident),* $(,)?)) => {
        mod $backend {
            #[allow(unused_imports)] // the harness may be named by its full path
            use super::*;

            $($crate::__can_be_left_out!($left_out);)*
            $crate::__cases!(__tests [$backend $harness] [$($left_out)*]);

            #[test]
            fn declarations_are_true() {
                let case = $crate::run::Case {
                    backend: stringify!($backend),
                    module: module_path!(),
                    name: "declarations_are_true",
                    rule: $crate::run::Rule::Declared,
                };
                let left_out: &[&str] = &[$(stringify!($left_out)),*];
                $crate::run::declarations::<$harness>(case, left_out).unwrap_or_else(|broken| panic!("{broken}"));
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (
        [$backend:ident $harness:ty] $left_out:tt
        $($module:ident, $rule:expr, $needs:ident: [$($case:ident)*])*
    ) => {$(
        $crate::__unless! { $needs $left_out { $(
            #[test]
            fn $case() {
                use $crate::run::Rule::*;
                let case = $crate::run::Case {
                    backend: stringify!($backend),
                    module: module_path!(),
                    name: stringify!($case),
                    rule: $rule,
                };
                let verdict = $crate::run::$needs::<$harness>(case, $crate::cases::boxed::$case);
                verdict.unwrap_or_else(|broken| panic!("{broken}"));
            }
        )* } }
    )*};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    (
        [$backend:ident $harness:ty] $left_out:tt
        $($module:ident, $rule:expr, $needs:ident: [$($case:ident)*])*
    ) => {{
        use Rule::*;
        let mut table = Vec::new();
        $($crate::__unless! { $needs $left_out { table.extend([$(
            Runnable {
                case: Case { backend: $backend, module: module_path!(), name: stringify!($case), rule: $rule },
                run: |case| $crate::run::$needs::<$harness>(case, $crate::cases::boxed::$case),
            }
        ),*]); } })*
        table
    }};
}

/// Expands to the braces unless the brackets contain the word before them.
#[doc(hidden)]
#[macro_export]
macro_rules! __unless {
    (queue [queue $($rest:ident)*] $tests:tt) => {};
    (push [push $($rest:ident)*] $tests:tt) => {};
    (processes [processes $($rest:ident)*] $tests:tt) => {};
    (network [network $($rest:ident)*] $tests:tt) => {};
    (cost [network $($rest:ident)*] $tests:tt) => {};
    (cost [cost $($rest:ident)*] $tests:tt) => {};
    (control [control $($rest:ident)*] $tests:tt) => {};
    (rest [rest $($rest:ident)*] $tests:tt) => {};
    (data [data $($rest:ident)*] $tests:tt) => {};
    ($needs:ident [$other:ident $($rest:ident)*] $tests:tt) => { $crate::__unless! { $needs [$($rest)*] $tests } };
    ($needs:ident [] { $($tests:tt)* }) => { $($tests)* };
}

/// Fails to compile for a word that `without` does not know.
#[doc(hidden)]
#[macro_export]
macro_rules! __can_be_left_out {
    (queue) => {};
    (push) => {};
    (processes) => {};
    (network) => {};
    (cost) => {};
    (control) => {};
    (rest) => {};
    (data) => {};
}
