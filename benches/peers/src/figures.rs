//! Measuring, and the lines that are printed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// When an operation has been measured for so long, that is enough.
const ENOUGH: Duration = Duration::from_secs(2);
/// Unless it has been measured less often than this.
const FEWEST: usize = 3;

/// Times what is done.
pub fn timed<T>(job: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let value = job();
    (start.elapsed(), value)
}

/// Measures an operation again and again, `most` times or for as long as is enough. What is given
/// back is what the operation says it took, as much around it is none of it.
pub fn measure(most: usize, mut once: impl FnMut() -> Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < most && (times.len() < FEWEST || start.elapsed() < ENOUGH) {
        times.push(once());
    }
    times
}

/// A line in the making.
pub struct Figure(Value);

impl Figure {
    /// Of an operation.
    pub fn new(part: &str, who: &str, operation: &str, devices: usize) -> Self {
        Self(json!({ "part": part, "who": who, "operation": operation, "devices": devices }))
    }

    /// Adds a field.
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    /// Prints it with these times.
    pub fn print(self, mut times: Vec<Duration>) {
        times.sort();
        let at = |part: usize| {
            let microseconds = times[times.len() * part / 100].as_secs_f64() * 1e6;
            (microseconds * 10.0).round() / 10.0
        };
        let line = self.with("median_us", at(50)).with("p95_us", at(95)).with("runs", times.len());
        println!("{}", line.0);
    }
}
