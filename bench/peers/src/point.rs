//! A result of one library in one round.

use std::time::Duration;

use rlock_testkit::bench::{Benchmark, Row, Unit};

/// The name of the store without locks, among the libraries.
pub const BARE: &str = "bare";

/// A result of one library in one round. Times are in seconds.
pub struct Point {
    /// The measurement.
    pub title: String,
    pub who: &'static str,
    pub round: usize,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
    pub per_second: Option<f64>,
    pub cpu: Option<f64>,
    /// The time per operation, from which ratios are calculated.
    pub cost: Option<f64>,
    /// The cost divided by that of the store without locks, which was measured in turns with it.
    pub beside_bare: Option<f64>,
    /// The counters of the server.
    pub counts: Vec<(String, f64)>,
}

impl Point {
    /// The points of a row: two if it has the CPU time of client and server.
    pub fn of(row: &Row, who: &'static str, round: usize) -> Vec<Self> {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let counts = row.figures.iter().filter(|figure| figure.unit == Unit::Count);
        let point = |title: String| Self {
            title,
            who: if row.is_bare { BARE } else { who },
            round,
            p50: seconds(row.p50),
            p99: seconds(row.p99),
            per_second: row.per_second,
            cpu: None,
            cost: None,
            beside_bare: row.ratio,
            counts: counts.clone().map(|figure| (figure.label.clone(), figure.value)).collect(),
        };
        let median = seconds(row.p50);
        let wall = row.per_second.map(|per_second| 1.0 / per_second);
        let plural = if row.tasks == 1 { "" } else { "s" };
        match row.benchmark {
            Benchmark::Cpu => ["client", "server"]
                .into_iter()
                .filter_map(|process| {
                    let figure = |name: &str| row.figures.iter().find(|figure| figure.name == name);
                    let cpu = figure(&format!("{process}_cpu_us"))?.value / 1e6;
                    let beside_bare = figure(&format!("{process}_cpu_ratio")).map(|figure| figure.value);
                    let title = format!("CPU of the {process}, {} task{plural}", row.tasks);
                    let mut point = Self { cpu: Some(cpu), cost: Some(cpu), beside_bare, ..point(title) };
                    if process == "server" {
                        point.counts.clear(); // the client's point has them
                    }
                    Some(point)
                })
                .collect(),
            Benchmark::HandOver => vec![Self { cost: median, ..point("hand-over".into()) }],
            Benchmark::Contention => vec![Self { cost: wall, ..point(format!("{} tasks, {}", row.tasks, row.what)) }],
            _ => {
                let cost = if row.tasks == 1 { median } else { wall };
                vec![Self { cost, ..point(format!("lock + unlock, {} task{plural}", row.tasks)) }]
            }
        }
    }
}
