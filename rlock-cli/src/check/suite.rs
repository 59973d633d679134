//! The conformance suite on a store in use: each case runs in its own process and its own namespaces, which it removes.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Display;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use rlock::backend::{Backend, Finding, baseline};
use rlock::{Client, ListFilter, Namespace};
use rlock_testkit::run::Runnable;
use rlock_testkit::{Harness, async_trait, cases_for};
use tokio::process::Command;
use tokio::runtime::{Builder, Handle};

use crate::args::CheckArgs;
use crate::exit::Exit;
use crate::report::{self, report};
use crate::throw_away::without_grace;

const URL: &str = "RLOCK_URL";
const SUBJECT: &str = "suite";
/// The beginning of the line about a namespace that was not removed.
const LEFT: &str = "not removed: ";

/// A case that ran in a process.
struct Ran {
    /// The message of the failed case.
    broken: Option<String>,
    /// A namespace that was not removed, and the reason.
    left: Option<String>,
}

/// The cases to run.
pub(super) fn chosen(args: &CheckArgs) -> Result<Vec<Runnable>, Exit> {
    let all = cases_for::<AtUrl>("this store");
    let is_known = |name: &&String| all.iter().any(|case| case.case().name == **name);
    if let Some(name) = args.cases.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = all.iter().map(|case| case.case().name).collect();
        report!("there is no case {name:?} in the suite; there are: {}", names.join(", "));
        return Err(Exit::USAGE);
    }
    let is_chosen = |case: &Runnable| args.cases.is_empty() || args.cases.iter().any(|name| name == case.case().name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

/// Runs cases, one for each processor at a time, and reports those that fail. A failed case runs once more alone: some
/// cases depend on time, and fail on a busy machine.
pub(super) async fn run(url: &str, cases: &[Runnable], mut tell: impl FnMut(Finding)) {
    let (started, count) = (Instant::now(), cases.len());
    let at_a_time = available_parallelism().map_or(1, usize::from);
    let outcome = async |case: &'static str| (case, in_a_process(url, case).await);
    let mut outcomes = stream::iter(cases).map(|case| outcome(case.case().name)).buffer_unordered(at_a_time);
    let (mut done, mut again, mut left) = (0, Vec::new(), Vec::new());
    while let Some((case, ran)) = outcomes.next().await {
        done += 1;
        again.extend(ran.broken.map(|broken| (case, broken)));
        left.extend(ran.left);
        report::pass(&format!("{done} of {count} cases of the suite"));
    }
    let mut failed = 0;
    for (case, broken_beside_others) in again {
        report::pass(&format!("{case} once more"));
        let ran = in_a_process(url, case).await;
        report::clear();
        left.extend(ran.left);
        failed += usize::from(ran.broken.is_some());
        tell(match ran.broken {
            Some(broken) => Finding::risk(SUBJECT, broken),
            None => {
                let text = format!(
                    "passed alone; failed beside others, perhaps because the machine was busy: {broken_beside_others}"
                );
                Finding::note(SUBJECT, text)
            }
        });
    }
    report::clear();
    if let Some(first) = left.first() {
        tell(Finding::note(
            SUBJECT,
            format!("{} cases left a namespace in the store, for instance {first}", left.len()),
        ));
    }
    let took = started.elapsed().as_secs();
    tell(match failed {
        0 => Finding::good(SUBJECT, format!("{count} cases passed in {took}s")),
        _ => Finding::risk(SUBJECT, format!("{failed} of {count} cases failed, in {took}s: do not rely on its locks")),
    });
}

async fn in_a_process(url: &str, name: &str) -> Ran {
    let not_run = |reason: String| Ran { broken: Some(format!("{name}: {reason}")), left: None };
    let program = match env::current_exe() {
        Ok(program) => program,
        Err(error) => return not_run(format!("this program does not find itself: {error}")),
    };
    let mut command = Command::new(program);
    // Not as an argument, which other users can read: it may contain a password.
    command.arg("case").arg(name).env(URL, url).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) => return not_run(format!("the process was not started: {error}")),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let broken = match output.status.success() {
        true => None,
        false => {
            let broken = said.lines().find(|line| line.starts_with('['));
            Some(broken.map_or_else(|| format!("{name}: its process ended by {}", output.status), str::to_owned))
        }
    };
    let left = said.lines().find_map(|line| line.strip_prefix(LEFT)).map(str::to_owned);
    Ran { broken, left }
}

/// The work of such a process.
pub(crate) fn case(name: &str) -> Exit {
    let cases = cases_for::<AtUrl>("this store");
    let Some(case) = cases.iter().find(|case| case.case().name == name) else { return Exit::USAGE };
    let outcome = case.run();
    if let Err(left) = clean_up() {
        println!("{LEFT}{left}");
    }
    match outcome {
        Ok(()) => Exit::OK,
        Err(broken) => {
            println!("{broken}");
            Exit::AT_RISK
        }
    }
}

/// Removes the namespaces that the case has used. If that fails, returns the first of them and the reason.
fn clean_up() -> Result<(), String> {
    let used = std::mem::take(&mut *USED.lock().unwrap_or_else(PoisonError::into_inner));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let url = url();
        let mut removed = Ok(());
        for namespace in &used {
            removed = removed.and(remove(&url, namespace).await);
        }
        removed
    })
}

async fn remove(url: &str, namespace: &Namespace) -> Result<(), String> {
    let failed = |error: &dyn Display| format!("{namespace}: {error}");
    let baseline = baseline(url, namespace).await.map_err(|error| failed(&error))?;
    baseline.clean_up().await.map_err(|error| failed(&error))
}

fn url() -> String {
    without_grace(&env::var(URL).expect("the process that started this one has set it"))
}

/// The namespaces that the case of this process has used.
static USED: Mutex<BTreeSet<Namespace>> = Mutex::new(BTreeSet::new());

/// The store that the environment names.
#[derive(Debug)]
struct AtUrl(String);

#[async_trait]
impl Harness for AtUrl {
    async fn start() -> Self {
        Self(url())
    }

    async fn connect(&self, namespace: &Namespace) -> Arc<dyn Backend> {
        USED.lock().unwrap_or_else(PoisonError::into_inner).insert(namespace.clone());
        rlock::backend::open(&self.0, Some(namespace)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The locks that the backend lists. Only the store's own tests can look at its raw data.
    async fn leftovers(&self, namespace: &Namespace) -> Vec<String> {
        let client = Client::builder().runtime(Handle::current()).build(self.connect(namespace).await);
        let page = client.list(&ListFilter::default()).await.unwrap_or_else(|error| panic!("{error}"));
        page.entries.iter().map(|entry| entry.resource.to_string()).collect()
    }
}
