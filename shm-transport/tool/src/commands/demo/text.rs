//! Numbers for people.

use std::time::Duration;

/// A time of three digits or so.
pub fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    for (unit, size) in [("s", 1e9), ("ms", 1e6), ("µs", 1e3)] {
        if value >= size {
            let value = value / size;
            let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            return format!("{value:.digits$} {unit}");
        }
    }
    format!("{nanoseconds} ns")
}

/// A duration, likewise.
pub fn duration(duration: Duration) -> String {
    time(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// A count, its digits in groups of three.
pub fn count(number: u64) -> String {
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

/// So many in a time, each second.
pub fn rate(number: u64, nanoseconds: u64) -> f64 {
    if nanoseconds == 0 { 0.0 } else { number as f64 * 1e9 / nanoseconds as f64 }
}

/// Bytes a second.
pub fn megabytes(per_second: f64) -> String {
    let megabytes = per_second / 1e6;
    if megabytes < 99.5 {
        format!("{megabytes:.1} MB/s")
    } else {
        format!("{} MB/s", count(megabytes.round() as u64))
    }
}

/// Messages a second.
pub fn messages(per_second: f64) -> String {
    if per_second < 1e6 {
        format!("{:.0} k/s", per_second / 1e3)
    } else {
        format!("{:.1} M/s", per_second / 1e6)
    }
}

/// Names in a sentence.
pub fn list(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "nobody".into(),
        [one] => one.as_ref().into(),
        [most @ .., last] => {
            let most: Vec<&str> = most.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", most.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        for (number, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1000, "1.00 µs"),
            (12_340, "12.3 µs"),
            (123_400, "123 µs"),
            (1_500_000, "1.50 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(time(number), text);
        }
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!(megabytes(rate(5_000_000, 100_000_000)), "50.0 MB/s");
        assert_eq!(megabytes(1.2345e9), "1,235 MB/s");
        assert_eq!(messages(rate(1, 0)), "0 k/s");
        assert_eq!(list(&["a", "b", "c"]), "a, b and c");
        assert_eq!(list(&[] as &[&str]), "nobody");
    }
}
