//! Every case as a function that returns a boxed future. Each case is compiled once, here, and not in each test program.

use futures_util::future::LocalBoxFuture;

use crate::faults::Control;
use crate::{Network, Remotes, Stage};

crate::__cases!(__boxed [] []);

/// Defines a function for each case.
#[doc(hidden)]
#[macro_export]
macro_rules! __boxed {
    ($tested:tt $left_out:tt $($module:ident, $rule:expr, $needs:ident: [$($case:ident)*])*) => {
        $($($crate::__boxed_case! { $needs $module $case })*)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __boxed_case {
    (processes $module:ident $case:ident) => {
        pub fn $case<'a>(stage: &'a Stage, remotes: &'a Remotes) -> LocalBoxFuture<'a, ()> {
            Box::pin(super::$module::$case(stage, remotes))
        }
    };
    (cost $module:ident $case:ident) => {
        $crate::__boxed_case! { network $module $case }
    };
    (network $module:ident $case:ident) => {
        pub fn $case<'a>(stage: &'a Stage, network: &'a Network) -> LocalBoxFuture<'a, ()> {
            Box::pin(super::$module::$case(stage, network))
        }
    };
    (control $module:ident $case:ident) => {
        pub fn $case<'a>(stage: &'a Stage, server: &'a dyn Control, remotes: &'a Remotes) -> LocalBoxFuture<'a, ()> {
            Box::pin(super::$module::$case(stage, server, remotes))
        }
    };
    ($on_stage:ident $module:ident $case:ident) => {
        pub fn $case(stage: &Stage) -> LocalBoxFuture<'_, ()> {
            Box::pin(super::$module::$case(stage))
        }
    };
}
