//! Choices between a source and its mutants.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::list::{Hunk, Mutant, Target};

/// Each choice by its range, with its arms. Sorted by start; a longer range comes before a shorter one.
type Sites = BTreeMap<(usize, Reverse<usize>), Vec<String>>;

/// Inserts a choice into the source wherever a mutant changes it.
pub(crate) fn mutate(source: &str, mutants: &[Mutant]) -> String {
    let mut sites = Sites::new();
    for Mutant { name, target, .. } in mutants {
        let Target::Copy(hunks) = target else { continue };
        for hunk in hunks {
            let Range { start, end } = find(source, name, hunk);
            let arm = format!("{name:?} => {{ {} }}", hunk.mutated);
            sites.entry((start, Reverse(end))).or_default().push(arm);
        }
    }
    rewrite(source, 0..source.len(), &mut sites)
}

/// The range of the original, which has to occur exactly once.
fn find(source: &str, name: &str, hunk: &Hunk) -> Range<usize> {
    let joined = |parts: [&str; 2]| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
    let until_change = joined([&hunk.before, &hunk.original]);
    let whole = joined([&until_change, &hunk.after]);
    let mut found = source.match_indices(&whole);
    let (Some((at, _)), None) = (found.next(), found.next()) else {
        let times = source.matches(&whole).count();
        panic!("mutant {name}: its snippet occurs {times} times, not once: adapt the list\n{whole}");
    };
    let end = at + until_change.len();
    end - hunk.original.len()..end
}

/// Writes `range` with a choice at each site in it. A site may lie inside the original of another.
fn rewrite(source: &str, range: Range<usize>, sites: &mut Sites) -> String {
    let (mut text, mut at) = (String::new(), range.start);
    while let Some(site) = sites.first_entry().filter(|site| site.key().0 < range.end) {
        let ((start, Reverse(end)), arms) = site.remove_entry();
        let arms = arms.join("\n");
        assert!(end <= range.end, "the snippets of two mutants overlap, one of them:\n{arms}");
        let original = &source[start..end];
        let rest = rewrite(source, start..end, sites);
        let choice = format!("match crate::mutant() {{\n{arms}\n_ => {{ {rest} }}\n}}");
        let is_statement = original.ends_with([';', '}']);
        text += &source[at..start];
        text += &if is_statement { choice } else { format!("({choice})") };
        at = end;
    }
    text + &source[at..range.end]
}
