//! Numbers for people.

use std::time::Duration;

/// A time in the unit that suits it.
pub(super) fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        ..1_000.0 => format!("{} µs", significant(micros)),
        1_000.0..1_000_000.0 => format!("{} ms", significant(micros / 1e3)),
        _ => format!("{} s", significant(micros / 1e6)),
    }
}

/// A count: whole numbers without decimals, large ones with separators.
pub(super) fn count(number: f64) -> String {
    if number < 100.0 && number.fract() != 0.0 { significant(number) } else { separated(number) }
}

/// A multiple.
pub(super) fn ratio(ratio: f64) -> String {
    if ratio < 99.995 { format!("{ratio:.2} x") } else { format!("{} x", significant(ratio)) }
}

/// Three significant digits, or all digits in front of the point.
pub(super) fn significant(number: f64) -> String {
    match number {
        ..9.995 => format!("{number:.2}"),
        9.995..99.95 => format!("{number:.1}"),
        _ => separated(number),
    }
}

fn separated(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_their_unit() {
        let texts: Vec<_> = [310, 12_345, 999_400, 1_234_567, 1_500_000_000, 61_000_000_000]
            .into_iter()
            .map(|nanos| time(Duration::from_nanos(nanos)))
            .collect();
        assert_eq!(texts, ["0.31 µs", "12.3 µs", "999 µs", "1.23 ms", "1.50 s", "61.0 s"]);
    }

    #[test]
    fn counts_are_whole_or_have_decimals() {
        assert_eq!([0.0, 2.0, 2.25, 64.0, 123.4, 1_234_567.0].map(count), ["0", "2", "2.25", "64", "123", "1,234,567"]);
        assert_eq!([1.125, 99.99, 116.58, 1_234.5].map(ratio), ["1.12 x", "99.99 x", "117 x", "1,234 x"]);
    }
}
