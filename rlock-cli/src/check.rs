//! `rlock check`: whether a store is fit for locks.

#[cfg(feature = "suite")]
pub(crate) mod suite;

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use rlock::backend::{Finding, Verdict};
use rlock::{BackendError, Client};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::ask::ask;
use crate::exit::Exit;

#[derive(Debug, Serialize)]
struct Line<'a> {
    verdict: String,
    subject: &'a str,
    text: &'a str,
}

/// Prints findings and remembers the worst verdict.
#[derive(Debug)]
struct Findings {
    is_json: bool,
    worst: Verdict,
}

impl Findings {
    fn tell(&mut self, finding: &Finding) {
        self.worst = self.worst.max(finding.verdict);
        let Finding { subject, verdict, text, .. } = finding;
        let line = if self.is_json {
            let line = Line { verdict: verdict.to_string(), subject, text };
            serde_json::to_string(&line).expect("three texts have a form in JSON")
        } else {
            format!("{verdict}  {subject:12} {text}")
        };
        let _reader_gone = writeln!(io::stdout(), "{line}");
    }
}

pub(crate) async fn check(args: CheckArgs) -> Exit {
    #[cfg(feature = "suite")]
    let cases = match suite::chosen(&args) {
        Ok(cases) => cases,
        Err(exit) => return exit,
    };
    let mut findings = Findings { is_json: args.json, worst: Verdict::Good };
    let started = Instant::now();
    let examined = ask(&args.store, async |client| {
        let connected = started.elapsed();
        let backend = client.capabilities().backend;
        findings.tell(&Finding::good("reachable", format!("{backend}, in {connected:.1?}")));
        findings.tell(&round_trip(client).await?);
        client.examine().await?.iter().for_each(|finding| findings.tell(finding));
        Ok(())
    });
    if let Err(exit) = examined.await {
        return exit;
    }
    #[cfg(feature = "suite")]
    if !args.no_suite {
        suite::run(args.store.url(), &cases, |finding| findings.tell(&finding)).await;
    }
    if findings.worst == Verdict::Risk { Exit::AT_RISK } else { Exit::OK }
}

/// The time that an answer takes, measured with a read.
async fn round_trip(client: &Client) -> Result<Finding, BackendError> {
    const TIMES: usize = 21;
    const SLOW: Duration = Duration::from_millis(500);
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let asked = Instant::now();
        client.inspect("rlock-check").await?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    let (median, worst) = (times[TIMES / 2], times[TIMES - 1]);
    let subject = "round trip";
    let text = format!("{median:.1?} at the median of {TIMES}, {worst:.1?} at worst");
    if worst < SLOW {
        return Ok(Finding::good(subject, text));
    }
    Ok(Finding::note(subject, format!("{text}; choose a TTL that is many times longer")))
}
