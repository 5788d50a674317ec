//! What the benches share: how a figure is written (a line of JSON that `cargo xtask bench` reads),
//! and how often something is measured.

// Not every bench uses all of it.
#![allow(dead_code)]

pub mod rooms;

use std::time::Duration;

use matrix_mls_kit::written_tree::Shape;
use serde_json::{Map, Value, json};

/// How figures name this library.
pub const OURS: &str = "matrix-mls";
/// How they name plain OpenMLS.
pub const OPENMLS: &str = "OpenMLS in memory";

/// The sizes that were asked for (`cargo bench --bench NAME -- 10 1000`), or else these. Flags that
/// cargo adds are none of ours.
pub fn sizes(default: &[usize]) -> Vec<usize> {
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    if chosen.is_empty() { default.to_vec() } else { chosen }
}

/// How often what grows with the room is measured: less often where it takes long.
pub fn rounds(devices: usize, most: usize) -> usize {
    match devices {
        ..=1_000 => most,
        1_001..=10_000 => most.min(3),
        _ => 1,
    }
}

/// How long all threads of this process have run, where the system tells (Linux).
pub fn processor() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanoseconds.sum()))
}

/// One figure.
pub struct Figure(Map<String, Value>);

impl Figure {
    /// Of an operation in a room of so many devices.
    pub fn new(part: &str, who: &str, operation: &str, devices: usize) -> Self {
        let mut fields = Map::new();
        for (name, value) in [("part", part), ("who", who), ("operation", operation)] {
            fields.insert(name.to_owned(), json!(value));
        }
        fields.insert("devices".to_owned(), json!(devices));
        Self(fields)
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    /// In a tree of this shape.
    pub fn tree(self, shape: Shape) -> Self {
        self.with("tree", shape.name())
    }

    /// What it took.
    pub fn times(self, mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |part: usize| {
            let microseconds = times[times.len() * part / 100].as_secs_f64() * 1e6;
            (microseconds * 10.0).round() / 10.0
        };
        let (median, p95) = (at(50), at(95));
        self.with("median_us", median).with("p95_us", p95).with("runs", times.len())
    }

    /// What is sent: without ratchet trees, and those on top.
    pub fn bytes(self, (bytes, tree): (usize, usize)) -> Self {
        let figure = self.with("bytes", bytes);
        if tree == 0 { figure } else { figure.with("bytes_tree", tree) }
    }

    /// What one operation writes to files, where that is known.
    pub fn written(self, bytes: Option<u64>) -> Self {
        match bytes {
            Some(bytes) => self.with("written_bytes", bytes),
            None => self,
        }
    }

    /// Writes it.
    pub fn print(self) {
        println!("{}", Value::Object(self.0));
    }
}
