//! The arguments of `rlock check`.

use clap::Args;

use super::store::Store;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The store; the same as --url
    #[arg(value_name = "URL")]
    pub(super) at: Option<String>,

    #[command(flatten)]
    pub(crate) store: Store,

    /// Leaves out the conformance suite, which takes some minutes
    #[cfg(feature = "suite")]
    #[arg(long)]
    pub(crate) no_suite: bool,

    /// Runs only this case of the conformance suite; may be repeated
    #[cfg(feature = "suite")]
    #[arg(long = "case", value_name = "NAME", conflicts_with = "no_suite")]
    pub(crate) cases: Vec<String>,

    /// Prints JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}
