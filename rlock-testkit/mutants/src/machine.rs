//! The copy of the lease's state machine, and the explorations of its model.

/// The text of another crate, where it is checked, with choices put in by the build script.
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
/// The broken property, and the way to the state that breaks it.
///
/// # Panics
///
/// Panics if there is no exploration of that name.
pub fn explore(name: &str) -> Result<usize, String> {
    let explored = copy::explore(name).unwrap_or_else(|| panic!("there is no exploration {name:?}"));
    match explored.broken {
        None => Ok(explored.states),
        Some((property, way)) => Err(format!("{property}: {way}")),
    }
}
