//! Numbers as people write them: durations, bytes, ratios, and thousands set apart.

/// A duration in microseconds, as µs, ms or s.
pub fn duration(microseconds: f64) -> String {
    match microseconds {
        us if us < 1e3 => format!("{} µs", digits(us)),
        us if us < 1e6 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// A number of bytes, as B, kB or MB.
pub fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1e3 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{} kB", digits(bytes / 1e3)),
        bytes => format!("{} MB", digits(bytes / 1e6)),
    }
}

/// How many times as much.
pub fn ratio(times: f64) -> String {
    format!("{} ×", digits(times))
}

/// A whole number with its thousands set apart by commas.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// At least three digits, without zeros at the end of a fraction.
fn digits(number: f64) -> String {
    let text = match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_magnitude() {
        assert_eq!([0.5, 62.04, 1_500.0, 2e6].map(duration), ["0.5 µs", "62 µs", "1.5 ms", "2 s"]);
        assert_eq!([100.0, 2_048.0, 1e7].map(size), ["100 B", "2.05 kB", "10 MB"]);
        assert_eq!(ratio(4.046), "4.05 ×");
        assert_eq!(digits(100.0), "100");
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([1, 999, 1_000, 1_234_567].map(thousands), ["1", "999", "1,000", "1,234,567"]);
    }
}
