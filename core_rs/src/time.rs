//! Event times as written by senders, to microseconds since 1970 UTC. Exact: no time passes through a float.

use crate::dictionary::TimeFormat;
use crate::limits::{TIME_MAX_US, TIME_MIN_US};

const DAY_US: i64 = 86_400_000_000;

/// A time written in the given format; an epoch is a JSON number.
pub fn parse(text: &[u8], format: TimeFormat) -> Option<i64> {
    match format {
        TimeFormat::Rfc3339 => rfc3339_us(text),
        TimeFormat::EpochS => epoch_us(text, 6),
        TimeFormat::EpochMs => epoch_us(text, 3),
        TimeFormat::EpochUs => epoch_us(text, 0),
    }
}

/// RFC 3339 with its `T`, `t` or space, 0 to 9 digits of fraction (cut to microseconds) and `Z`, `z` or `+hh:mm`.
/// Leap seconds are refused: the calendar of the lake has none.
pub fn rfc3339_us(text: &[u8]) -> Option<i64> {
    let mut us = midnight_us(text)? + seconds_of_day(text)? * 1_000_000;
    let mut rest = text.get(19..)?;
    if let [b'.', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|c| c.is_ascii_digit()).count();
        if !(1..=9).contains(&digits) {
            return None;
        }
        us += fraction[..digits]
            .iter()
            .zip([100_000, 10_000, 1_000, 100, 10, 1])
            .map(|(c, unit)| digit(*c) * unit)
            .sum::<i64>();
        rest = &fraction[digits..];
    }
    us -= match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (two(rest, 1)?, two(rest, 4)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = (hours * 60 + minutes) * 60_000_000;
            if *sign == b'+' { offset } else { -offset }
        }
        _ => return None,
    };
    (TIME_MIN_US..=TIME_MAX_US).contains(&us).then_some(us)
}

/// Midnight of the date at the head of `YYYY-MM-DDT`.
pub(crate) fn midnight_us(text: &[u8]) -> Option<i64> {
    let (year, month, day) = (two(text, 0)? * 100 + two(text, 2)?, two(text, 5)?, two(text, 8)?);
    let separated = text[4] == b'-' && text[7] == b'-' && matches!(text.get(10)?, b'T' | b't' | b' ');
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    (separated && year > 0 && (1..=days).contains(&day)).then(|| days_from_civil(year, month, day) * DAY_US)
}

fn seconds_of_day(text: &[u8]) -> Option<i64> {
    let (hour, minute, second) = (two(text, 11)?, two(text, 14)?, two(text, 17)?);
    let formed = text[13] == b':' && text[16] == b':' && hour < 24 && minute < 60 && second < 60;
    formed.then_some((hour * 60 + minute) * 60 + second)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn digit(c: u8) -> i64 {
    i64::from(c - b'0')
}

fn two(text: &[u8], at: usize) -> Option<i64> {
    match text.get(at..at + 2)? {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(digit(*tens) * 10 + digit(*ones)),
        _ => None,
    }
}

/// A JSON number of some unit of which 10^-`places` is a microsecond; what is finer is cut toward minus infinity.
pub fn epoch_us(text: &[u8], places: i64) -> Option<i64> {
    let number = Decimal::split(text)?;
    // Where the decimal point falls among the digits, once they count microseconds.
    let point = number.exponent.saturating_add(number.whole.len() as i64).saturating_add(places);
    let mut us = 0_i64;
    let mut finer = false;
    for (place, c) in (0_i64..).zip(number.whole.iter().chain(number.fraction)) {
        if place < point {
            us = us.checked_mul(10)?.checked_add(digit(*c))?;
        } else {
            finer |= *c != b'0';
        }
    }
    // A huge exponent ends at the first multiplication that overflows, except for zero, which it leaves as it is.
    let written = (number.whole.len() + number.fraction.len()) as i64;
    if us != 0 {
        for _ in written..point {
            us = us.checked_mul(10)?;
        }
    }
    if number.negative {
        us = -us - i64::from(finer);
    }
    (TIME_MIN_US..=TIME_MAX_US).contains(&us).then_some(us)
}

/// The parts of a JSON number, as written.
struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

impl<'a> Decimal<'a> {
    fn split(text: &'a [u8]) -> Option<Self> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let (whole, mut rest) = digits(rest)?;
        if whole.len() > 1 && whole[0] == b'0' {
            return None;
        }
        let mut fraction: &[u8] = &[];
        if let [b'.', after @ ..] = rest {
            (fraction, rest) = digits(after)?;
        }
        let mut exponent = 0;
        if let [b'e' | b'E', after @ ..] = rest {
            let (sign, after) = match after {
                [b'-', after @ ..] => (-1, after),
                [b'+', after @ ..] => (1, after),
                _ => (1, after),
            };
            let (power, end) = digits(after)?;
            exponent = power.iter().fold(0_i64, |sum, c| sum.saturating_mul(10).saturating_add(digit(*c))) * sign;
            rest = end;
        }
        rest.is_empty().then_some(Decimal { negative, whole, fraction, exponent })
    }
}

/// The digits, at least one, at the head of the text, and what follows them.
fn digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let count = text.iter().take_while(|c| c.is_ascii_digit()).count();
    (count > 0).then(|| text.split_at(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rfc3339_times_are_read_to_the_microsecond() {
        for (text, us) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-11-21T10:15:30.123Z", 1_795_256_130_123_000),
            ("2026-11-21t10:15:30.123z", 1_795_256_130_123_000),
            ("2026-11-21 11:15:30.123+01:00", 1_795_256_130_123_000),
            ("2026-11-21T00:45:30.123456789-09:30", 1_795_256_130_123_456),
            ("2026-11-21T10:15:30.9Z", 1_795_256_130_900_000),
            ("1969-12-31T23:59:59.9999999Z", -1),
            ("2024-02-29T00:00:00-00:00", 1_709_164_800_000_000),
            ("0001-01-01T00:00:00Z", TIME_MIN_US),
            ("9999-12-31T23:59:59.999999Z", TIME_MAX_US),
        ] {
            assert_eq!(rfc3339_us(text.as_bytes()), Some(us), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_rfc3339_times() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21T10:15:30",
            "2026-11-21T10:15Z",
            "2026-11-21T10:15:30.Z",
            "2026-11-21T10:15:30.1234567890Z",
            "2026-11-21T10:15:60Z",
            "2026-11-21T24:00:00Z",
            "2026-11-21T10:60:00Z",
            "2026-02-29T10:15:30Z",
            "2026-13-01T10:15:30Z",
            "2026-00-01T10:15:30Z",
            "2026-11-00T10:15:30Z",
            "2026-11-31T10:15:30Z",
            "2026-11-21T10:15:30+24:00",
            "2026-11-21T10:15:30+00:60",
            "2026-11-21T10:15:30+0100",
            "2026-11-21T10:15:30+01",
            "2026-11-21T10:15:30Z ",
            " 2026-11-21T10:15:30Z",
            "2026/11/21T10:15:30Z",
            "2026-11-21_10:15:30Z",
            "2026-11-21T10-15-30Z",
            "+026-11-21T10:15:30Z",
            "0000-12-31T23:30:00-01:00",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "1795256130",
            "2026-11-21T10:15:30.12\u{e9}Z",
        ] {
            assert_eq!(rfc3339_us(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn epochs_are_exact_and_cut_toward_minus_infinity() {
        for (text, places, us) in [
            ("0", 6, 0),
            ("-0", 6, 0),
            ("0e999999999999999999999", 6, 0),
            ("1795256130", 6, 1_795_256_130_000_000),
            ("1795256130.1234567", 6, 1_795_256_130_123_456),
            ("1795256130.9999999999999999999999", 6, 1_795_256_130_999_999),
            ("1.795256130123e9", 6, 1_795_256_130_123_000),
            ("1795256130123", 3, 1_795_256_130_123_000),
            ("1795256130123.4567", 3, 1_795_256_130_123_456),
            ("1795256130123456", 0, 1_795_256_130_123_456),
            ("17952561301234565E-1", 0, 1_795_256_130_123_456),
            ("-0.0000001", 6, -1),
            ("-1.5", 0, -2),
            ("-1.0", 0, -1),
            ("1e-400", 6, 0),
            ("-1e-400", 6, -1),
            ("253402300799.999999", 6, TIME_MAX_US),
            ("-62135596800", 6, TIME_MIN_US),
        ] {
            assert_eq!(epoch_us(text.as_bytes(), places), Some(us), "{text}");
        }
    }

    #[test]
    fn other_texts_and_far_years_are_no_epochs() {
        for text in [
            "",
            "-",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "0x10",
            "NaN",
            "Infinity",
            " 1",
            "1 ",
            "253402300800",
            "-62135596801",
            "1e999999999999999999999",
            "9223372036854775808",
            "1e18",
            "\"1\"",
            "1_000",
        ] {
            assert_eq!(epoch_us(text.as_bytes(), 6), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text: Vec<u8>) {
            for format in [TimeFormat::Rfc3339, TimeFormat::EpochS, TimeFormat::EpochMs, TimeFormat::EpochUs] {
                parse(&text, format);
            }
        }

        #[test]
        fn a_whole_epoch_in_microseconds_is_itself(us in TIME_MIN_US..=TIME_MAX_US) {
            prop_assert_eq!(epoch_us(us.to_string().as_bytes(), 0), Some(us));
            let text = format!("{}{}.{:06}", if us < 0 { "-" } else { "" }, us.unsigned_abs() / 1_000_000, us.unsigned_abs() % 1_000_000);
            prop_assert_eq!(epoch_us(text.as_bytes(), 6), Some(us));
        }

        #[test]
        fn days_follow_each_other(day in -719_162_i64..2_932_896) {
            // Walk from the number of the day to its date by counting, independently of the formula.
            let mut year = 1967 + (day * 400).div_euclid(146_097);
            while days_from_civil(year + 1, 1, 1) <= day { year += 1; }
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let mut rest = day - days_from_civil(year, 1, 1);
            let mut month = 1;
            for days in [31, 28 + i64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                if rest < days { break; }
                rest -= days;
                month += 1;
            }
            prop_assume!(year >= 1);
            let text = format!("{year:04}-{month:02}-{:02}T00:00:00Z", rest + 1);
            prop_assert_eq!(rfc3339_us(text.as_bytes()), Some(day * DAY_US));
        }
    }
}
