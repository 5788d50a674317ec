//! The short version for the tests: it fails if what must not grow with the room does.
//!
//! Times are compared within one run and with a wide margin, because the machine may be busy. Bytes
//! written to disk are counted, so their margin is narrow.

use super::{
    figures::{self, Figure, Series},
    programs,
};
use crate::failure::Failure;

/// The sizes that are compared, in devices.
const SIZES: [u64; 2] = [10, 1_000];

/// The operations that must not grow, as figures name them.
const CONSTANT: [&str; 4] = ["encrypt", "decrypt", "open the store", "load a room"];
/// How many times as long an operation may take in the larger room. That room has a hundred times
/// the devices, so growth would show.
const TIME_MARGIN: f64 = 6.0;
/// How many times as many bytes an operation may write in the larger room.
const BYTES_MARGIN: f64 = 2.0;
/// Times below this, in microseconds, count as equal.
const FLOOR_US: f64 = 200.0;

/// Measures the operations and checks them.
pub fn run() -> Result<(), Failure> {
    let figures = programs::measure(
        "measuring what must not grow with the room",
        &[
            "test",
            "--quiet",
            "--workspace",
            "--locked",
            "--bench",
            "operations",
            "--",
            "--constant",
        ],
        &SIZES,
    )?;
    check(&figures).map_err(Failure::Message)
}

/// Fails with a sentence for each operation that grows or was not measured.
fn check(figures: &[Figure]) -> Result<(), String> {
    let problems: Vec<_> = CONSTANT.iter().flat_map(|name| problems(figures, name)).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn problems(figures: &[Figure], operation: &str) -> Vec<String> {
    let series = Series::new("operations", "matrix-mls", operation);
    let [small, large] = SIZES.map(|size| figures::find(figures, series, size));
    let (Some(small), Some(large)) = (small, large) else {
        return vec![format!("{operation}: it was not measured")];
    };
    let mut problems = Vec::new();
    let pair = |field| small.number(field).zip(large.number(field));
    match pair("median_us") {
        Some((small, large)) if large > TIME_MARGIN * small.max(FLOOR_US) => {
            problems.push(format!(
                "{operation} grows with the room: {small} µs with {} devices, {large} µs with {}",
                SIZES[0], SIZES[1]
            ))
        }
        Some(_) => {}
        None => problems.push(format!("{operation}: it was not timed")),
    }
    if let Some((small, large)) = pair("written_bytes")
        && large > BYTES_MARGIN * small
    {
        problems.push(format!(
            "{operation} writes more in a larger room: \
             {small} bytes with {} devices, {large} with {}",
            SIZES[0], SIZES[1]
        ));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::figures::parse;

    /// Figures of all operations. One of them takes this time and writes so many bytes in the
    /// larger room; the rest are the same in both.
    fn run(grown: &str, median_us: f64, written_bytes: u64) -> Vec<Figure> {
        let mut text = String::new();
        for operation in CONSTANT {
            for size in SIZES {
                let grows = size == SIZES[1] && operation == grown;
                let (time, bytes) = if grows { (median_us, written_bytes) } else { (80.0, 1_000) };
                let line = json!({
                    "part": "operations", "who": "matrix-mls", "operation": operation,
                    "devices": size, "median_us": time, "written_bytes": bytes,
                });
                text += &format!("{line}\n");
            }
        }
        parse(&text)
    }

    #[test]
    fn noise_is_let_pass() {
        assert_eq!(check(&run("encrypt", 80.0, 1_000)), Ok(()));
        assert_eq!(check(&run("decrypt", 900.0, 1_900)), Ok(()));
    }

    #[test]
    fn growth_is_not() {
        for operation in CONSTANT {
            let slow = check(&run(operation, 8_000.0, 1_000)).unwrap_err();
            assert!(slow.starts_with(&format!("{operation} grows with the room")), "{slow}");
            let wide = check(&run(operation, 80.0, 66_000)).unwrap_err();
            assert!(wide.starts_with(&format!("{operation} writes more")), "{wide}");
        }
    }

    #[test]
    fn what_is_not_measured_fails() {
        let figures: Vec<_> = run("", 0.0, 0)
            .into_iter()
            .filter(|figure| figure.text("operation") != "decrypt" || figure.devices() == SIZES[0])
            .collect();
        assert_eq!(check(&figures), Err("decrypt: it was not measured".to_owned()));
        assert!(check(&[]).is_err());
    }

    #[test]
    fn one_byte_where_there_was_none_is_growth() {
        let mut text = String::new();
        for (size, bytes) in [(10, 0), (1_000, 1)] {
            for operation in CONSTANT {
                let line = json!({
                    "part": "operations", "who": "matrix-mls", "operation": operation,
                    "devices": size, "median_us": 1.0, "written_bytes": bytes,
                });
                text += &format!("{line}\n");
            }
        }
        assert!(check(&parse(&text)).is_err());
    }
}
