//! The copy of the state machine of a lease, and the explorations of its model.

/// The source of another crate, which is linted there, with choices that the build script inserts.
#[allow(warnings, missing_docs, clippy::all)]
mod copy {
    include!(concat!(env!("OUT_DIR"), "/machine.rs"));

    pub(super) fn explore(name: &str) -> Option<model::Explored> {
        let (_, bounds) = model::explorations().into_iter().find(|(known, _)| *known == name)?;
        Some(model::explore(bounds))
    }
}

/// Runs an exploration, and returns the number of states.
///
/// # Errors
///
/// The broken property, and the path to the state that breaks it.
///
/// # Panics
///
/// Panics if there is no exploration with that name.
pub fn explore(name: &str) -> Result<usize, String> {
    let explored = copy::explore(name).unwrap_or_else(|| panic!("there is no exploration {name:?}"));
    match explored.broken {
        None => Ok(explored.states),
        Some((property, way)) => Err(format!("{property}: {way}")),
    }
}
