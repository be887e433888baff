//! How much a relay passes on, as people write it.

/// The most that can be said, in bits per second: a terabit, far beyond any link, and what is counted in
/// bytes or in fractions of a second stays far from what a number holds.
const MOST_BITS_PER_S: u64 = 1_000_000_000_000;

/// Bits per second as people write them: `100M`, `2.5G`, `64k` or a plain number; `None` for `off`.
///
/// # Errors
///
/// What was expected, when it is none of that, less than a bit or more than a terabit.
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
    match bits {
        Some(bits) if bits > MOST_BITS_PER_S => Err("at most 1000G bits per second".to_owned()),
        Some(bits) => Ok(Some(bits)),
        None => Err("expected off or bits per second, for example 100M, 2.5G or 500k".to_owned()),
    }
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
            ("1000G", Some(MOST_BITS_PER_S)),
        ] {
            assert_eq!(parsed_rate(text), Ok(expected), "{text}");
        }
        for text in [
            "", "M", "0", "0.1", "-1M", "1e9", "inf", "NaN", "100 M", "100MB", "on",
        ] {
            assert!(parsed_rate(text).is_err(), "{text}");
        }
        for text in ["1000.1G", "99999999999G", &"9".repeat(400)] {
            let error = parsed_rate(text).unwrap_err();
            assert!(error.contains("at most 1000G"), "{text}: {error}");
        }
    }
}
