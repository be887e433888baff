//! How much a relay passes on, as people write it.

/// Bits per second as people write them: `100M`, `2.5G`, `64k` or a plain number; `None` for `off`.
///
/// # Errors
///
/// What was expected, when it is none of that or less than a bit.
pub fn parsed_rate(text: &str) -> Result<Option<u64>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let (number, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        _ => (text, 1.0),
    };
    let plain = number.chars().all(|it| it.is_ascii_digit() || it == '.');
    let bits = number.parse::<f64>().ok().filter(|_| plain);
    let bits = bits
        .map(|bits| (bits * unit) as u64)
        .filter(|bits| *bits > 0);
    let expected = || "expected off or bits per second, for example 100M, 2.5G or 500k".to_owned();
    bits.map(Some).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_people_do() {
        for (text, expected) in [
            ("off", None),
            ("OFF", None),
            ("100M", Some(100_000_000)),
            ("2.5g", Some(2_500_000_000)),
            ("64k", Some(64_000)),
            ("9600", Some(9600)),
        ] {
            assert_eq!(parsed_rate(text), Ok(expected), "{text}");
        }
        for text in [
            "", "M", "0", "0.1", "-1M", "1e9", "inf", "NaN", "100 M", "100MB", "on",
        ] {
            assert!(parsed_rate(text).is_err(), "{text}");
        }
    }
}
