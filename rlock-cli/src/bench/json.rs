//! Rows as JSON, one object per line.

use std::time::Duration;

use rlock_testkit::bench::Row;
use serde_json::{Map, Value};

/// A row. Missing values are left out.
pub(super) fn line(row: &Row) -> String {
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mut object = Map::new();
    object.insert("benchmark".into(), row.benchmark.name().into());
    object.insert("what".into(), row.what.clone().into());
    object.insert("tasks".into(), row.tasks.into());
    object.insert("samples".into(), row.samples.into());
    let always = [
        ("p50_us", row.p50.map(micros)),
        ("p99_us", row.p99.map(micros)),
        ("per_second", row.per_second),
        ("ratio", row.ratio),
    ];
    let figures = row.figures.iter().map(|figure| (figure.name.as_str(), Some(figure.value)));
    for (name, value) in always.into_iter().chain(figures) {
        if let Some(value) = value {
            object.insert(name.into(), rounded(value));
        }
    }
    format!("{}\n", Value::Object(object))
}

/// Rounds to a thousandth.
fn rounded(value: f64) -> Value {
    ((value * 1e3).round() / 1e3).into()
}
