//! The explorations and their bounds.

use std::time::Duration;

use super::{Bounds, Budget, terms};
use crate::lease::{Renewal, Terms, Wait};

/// The explorations, by their names. Those that begin with `small` end within a few seconds.
pub(crate) fn explorations() -> Vec<(&'static str, Bounds)> {
    let none = Budget::default();
    let watched = terms(2, Wait::Forever, Some(1));
    let two = Bounds {
        clients: 2,
        capacity: 1,
        locks: 1,
        horizon: 4,
        budget: none,
        victim: None,
        terms: watched.clone(),
        stretch: 1,
    };
    let with = |budget: Budget| Bounds { budget, ..two.clone() };
    // The clients are alike, so it is enough that one of them has the mishaps.
    let with_victim = |budget: Budget| Bounds { victim: Some(0), ..with(budget) };
    let failing = watched.renewal.map(|renewal| Renewal { max_failures: Some(1), ..renewal });
    vec![
        ("small loss", with(Budget { losses: 1, ..none })),
        ("small delay", with(Budget { delays: 1, ..none })),
        ("small freeze", with(Budget { freezes: 1, crashes: 1, ..none })),
        ("small break", with(Budget { breaks: 1, ..none })),
        ("small repeat", with(Budget { repeats: 1, ..none })),
        ("small repeat and break", with(Budget { repeats: 1, breaks: 1, ..none })),
        ("small refusal", with(Budget { refusals: 2, ..none })),
        ("small wish", with(Budget { wishes: 2, give_ups: 1, ..none })),
        (
            "small wait",
            Bounds {
                terms: terms(2, Wait::Until(Bounds::moment(2)), Some(1)),
                ..with(Budget { losses: 1, give_ups: 1, ..none })
            },
        ),
        (
            "small unwatched",
            Bounds { terms: terms(2, Wait::Forever, None), ..with(Budget { losses: 1, breaks: 1, ..none }) },
        ),
        (
            "small rest",
            Bounds {
                terms: Terms { hold_at_least: Duration::from_secs(2), ..two.terms.clone() },
                ..with(Budget { losses: 1, give_ups: 1, ..none })
            },
        ),
        (
            "small limit",
            Bounds {
                terms: Terms { hold_at_most: Some(Duration::from_secs(2)), ..two.terms.clone() },
                ..with(Budget { losses: 1, wishes: 1, ..none })
            },
        ),
        (
            "small late limit",
            Bounds {
                clients: 1,
                terms: Terms { hold_at_most: Some(Duration::from_secs(1)), ..two.terms.clone() },
                ..with(Budget { freezes: 1, ..none })
            },
        ),
        ("small echo", with(Budget { echoes: 2, ..none })),
        ("small echo and loss", with_victim(Budget { echoes: 1, losses: 1, ..none })),
        ("small echo and break", with(Budget { echoes: 1, breaks: 1, ..none })),
        ("small late answer", with(Budget { late_answers: 1, give_ups: 1, ..none })),
        ("small late break", with_victim(Budget { late_answers: 1, breaks: 1, ..none })),
        (
            "small late break of an unwatched lock",
            Bounds { terms: terms(2, Wait::Forever, None), ..with(Budget { late_answers: 1, breaks: 1, ..none }) },
        ),
        (
            "small rest and break",
            Bounds {
                terms: Terms {
                    hold_at_least: Duration::from_secs(1),
                    hold_at_most: Some(Duration::from_secs(2)),
                    ..two.terms.clone()
                },
                ..with_victim(Budget { losses: 1, breaks: 1, ..none })
            },
        ),
        (
            "small poll",
            Bounds {
                terms: Terms { queues: false, pushes: false, ..terms(6, Wait::Until(Bounds::moment(3)), Some(2)) },
                ..with(Budget { losses: 1, ..none })
            },
        ),
        (
            "small poll of a queue",
            Bounds {
                terms: Terms { pushes: false, ..terms(6, Wait::Until(Bounds::moment(3)), Some(2)) },
                ..with(Budget { losses: 1, ..none })
            },
        ),
        ("small try", Bounds { terms: terms(2, Wait::Never, Some(1)), ..with(Budget { losses: 1, ..none }) }),
        ("small shutdown", with(Budget { closes: 1, losses: 1, ..none })),
        (
            "small shutdown with rest",
            Bounds {
                terms: Terms { hold_at_least: Duration::from_secs(2), ..two.terms.clone() },
                ..with(Budget { closes: 2, ..none })
            },
        ),
        ("small stretch", Bounds { stretch: 2, horizon: 5, ..with_victim(Budget { wishes: 1, losses: 1, ..none }) }),
        ("small stretch and break", Bounds { stretch: 2, horizon: 5, ..with(Budget { wishes: 1, breaks: 1, ..none }) }),
        ("small watch", Bounds { stretch: 2, ..with(Budget { watches: 1, losses: 1, ..none }) }),
        ("small resync", with(Budget { resyncs: 1, losses: 1, ..none })),
        ("small resync and break", Bounds { clients: 1, ..with(Budget { resyncs: 1, losses: 1, breaks: 1, ..none }) }),
        ("small adoption", Bounds { locks: 2, horizon: 3, ..with(Budget { hand_overs: 1, give_ups: 1, ..none }) }),
        ("small adoption and loss", Bounds { victim: Some(1), ..with(Budget { hand_overs: 1, losses: 1, ..none }) }),
        ("small adoption and shutdown", with(Budget { hand_overs: 1, closes: 1, ..none })),
        (
            "small outage",
            Bounds {
                clients: 1,
                horizon: 8,
                stretch: 3,
                ..with(Budget { refusals: 10, losses: 1, wishes: 1, ..none })
            },
        ),
        (
            "small lone holder",
            Bounds {
                clients: 1,
                horizon: 9,
                terms: terms(6, Wait::Forever, Some(4)),
                ..with(Budget { losses: 1, refusals: 1, ..none })
            },
        ),
        (
            "small first mishap",
            Bounds { horizon: 6, terms: terms(6, Wait::Forever, Some(2)), ..with_victim(Budget { losses: 1, ..none }) },
        ),
        (
            "small long extension",
            Bounds {
                clients: 1,
                horizon: 6,
                terms: terms(12, Wait::Forever, None),
                ..with(Budget { losses: 2, wishes: 1, ..none })
            },
        ),
        (
            "small dead holder",
            Bounds { horizon: 15, terms: terms(12, Wait::Forever, None), ..with(Budget { crashes: 1, ..none }) },
        ),
        (
            "dead waiter",
            Bounds {
                clients: 3,
                horizon: 15,
                terms: terms(12, Wait::Forever, None),
                ..with(Budget { crashes: 1, ..none })
            },
        ),
        ("small rejection", with(Budget { rejections: 1, losses: 1, ..none })),
        (
            "small failures",
            Bounds {
                terms: Terms { renewal: failing, ..two.terms.clone() },
                ..with_victim(Budget { losses: 2, ..none })
            },
        ),
        (
            "late claim",
            Bounds {
                clients: 1,
                horizon: 66,
                terms: Terms { retry_for: Duration::from_secs(70), ..terms(80, Wait::Forever, None) },
                ..with(Budget { delays: 1, give_ups: 1, ..none })
            },
        ),
        (
            "late extension",
            Bounds {
                horizon: 5,
                victim: Some(0),
                terms: terms(3, Wait::Forever, None),
                ..with(Budget { losses: 1, delays: 1, wishes: 1, ..none })
            },
        ),
        (
            "late grant",
            Bounds {
                locks: 2,
                victim: Some(1),
                terms: terms(3, Wait::Forever, Some(1)),
                ..with(Budget { losses: 1, delays: 1, ..none })
            },
        ),
        ("two clients", with(Budget { losses: 1, freezes: 1, crashes: 1, give_ups: 1, ..none })),
        (
            "two clients that lock twice",
            Bounds { locks: 2, ..with(Budget { losses: 1, repeats: 1, refusals: 1, ..none }) },
        ),
        ("three clients", Bounds { clients: 3, ..with(Budget { losses: 1, crashes: 1, ..none }) }),
        (
            "three clients and two permits",
            Bounds { clients: 3, capacity: 2, ..with(Budget { delays: 1, crashes: 1, ..none }) },
        ),
    ]
}
