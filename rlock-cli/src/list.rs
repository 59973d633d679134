//! `rlock list`: the locks that are held or waited for.

use rlock::{Entry, ListFilter};
use serde::Serialize;

use crate::args::ListArgs;
use crate::ask::ask;
use crate::exit::Exit;
use crate::output::print;

const PAGE: usize = 500;

#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    holders: u64,
    waiters: u64,
}

pub(crate) async fn list(args: ListArgs) -> Exit {
    let printed = ask(&args.store, async |client| {
        let mut filter = ListFilter { prefix: args.prefix.clone(), after: None, limit: PAGE };
        let mut is_first = !args.json;
        loop {
            let page = client.list(&filter).await?;
            let mut lines = String::new();
            if std::mem::take(&mut is_first) && !page.entries.is_empty() {
                lines.push_str("   HELD  QUEUED  NAME\n");
            }
            // Page by page, so that the first lines of a long list appear at once.
            lines.extend(page.entries.iter().map(|entry| line(entry, args.json)));
            if let Err(exit) = print(&lines) {
                return Ok(exit);
            }
            let Some(next) = page.next else { return Ok(Exit::OK) };
            filter.after = Some(next);
        }
    });
    printed.await.unwrap_or_else(|exit| exit)
}

fn line(entry: &Entry, is_json: bool) -> String {
    let Entry { resource, holders, waiters } = entry;
    if is_json {
        let line = Line { name: resource.as_str(), holders: *holders, waiters: *waiters };
        return serde_json::to_string(&line).expect("a name and two numbers have a form in JSON") + "\n";
    }
    format!("{holders:>7} {waiters:>7}  {resource}\n")
}

#[cfg(test)]
mod tests {
    use rlock::ResourceName;

    use super::*;

    #[test]
    fn a_lock_is_a_line() {
        let entry = Entry { resource: ResourceName::new("a \"b\"").unwrap(), holders: 1, waiters: 12 };
        assert_eq!(line(&entry, false), "      1      12  a \"b\"\n");
        assert_eq!(line(&entry, true), "{\"name\":\"a \\\"b\\\"\",\"holders\":1,\"waiters\":12}\n");
    }
}
