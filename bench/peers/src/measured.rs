//! The interface between the libraries and the rounds that measure them.

use std::pin::Pin;

use rlock_testkit::bench::{BenchError, Benchmark, Observer, Plan, Subject, run};

/// A library with its name, without its types.
pub trait Measured {
    fn name(&self) -> &'static str;
    fn note(&self) -> &'static str;
    fn measure<'a>(
        &'a self,
        benchmark: Benchmark,
        plan: &'a Plan,
        observer: &'a mut dyn Observer,
    ) -> Pin<Box<dyn Future<Output = Result<(), BenchError>> + 'a>>;
}

pub struct Named<S> {
    pub name: &'static str,
    pub note: &'static str,
    pub subject: S,
}

impl<S: Subject> Measured for Named<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn note(&self) -> &'static str {
        self.note
    }

    fn measure<'a>(
        &'a self,
        benchmark: Benchmark,
        plan: &'a Plan,
        observer: &'a mut dyn Observer,
    ) -> Pin<Box<dyn Future<Output = Result<(), BenchError>> + 'a>> {
        Box::pin(async move { run(&self.subject, plan, &[benchmark], observer).await })
    }
}
