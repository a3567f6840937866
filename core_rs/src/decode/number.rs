//! JSON numbers, exactly rounded.
//!
//! A number of up to seven digits on either side of its point takes no loop: the digits are found and summed eight at a
//! time (Daniel Lemire, "Number parsing at a gigabyte per second", 2021), and one division of two exact floats is
//! correctly rounded (William Clinger, "How to read floating point numbers accurately", 1990). Others go to fast-float.

use super::reason::Detail;
use super::scan::{HIGHS, ONES, peek};
use crate::names::load8;

const TENS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
const WHOLE_TENS: [u64; 8] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];

const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// How many of the word's bytes, from the lowest, are digits; the word has had `'0'` taken from every byte by exclusive or.
#[inline(always)]
pub(super) fn digits_at_head(values: u64) -> u32 {
    let others = (values.wrapping_add(ONES * 0x76) | values) & HIGHS;
    others.trailing_zeros() / 8
}

/// The number that the lowest `count` (1 to 8) bytes spell.
#[inline(always)]
pub(super) fn sum_digits(values: u64, count: u32) -> u64 {
    // Moved up, so that zeros lead; then pairs, fours and all eight digits are joined in parallel.
    let v = values << (64 - 8 * count);
    let v = (v & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(2_561) >> 8;
    let v = (v & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    (v & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32
}

/// Reads the number that starts at `start` with `c`, a digit or a minus. `-Infinity` is one, and so is what overflows:
/// both come back as infinities.
#[inline(always)]
pub(super) fn number(b: &[u8], start: usize, c: u8) -> Result<(f64, usize), Detail> {
    let negative = c == b'-';
    let whole_at = start + usize::from(negative);
    let whole = load8(b, whole_at) ^ ZEROS;
    let whole_digits = digits_at_head(whole);
    // A zero may stand alone before the point only.
    if whole_digits == 0 || whole_digits == 8 || (whole as u8 == 0 && whole_digits > 1) {
        return number_long(b, start);
    }
    let mut mantissa = sum_digits(whole, whole_digits);
    let mut scale = 0;
    let mut i = whole_at + whole_digits as usize;
    let mut c = peek(b, i);
    if c == b'.' {
        let fraction = load8(b, i + 1) ^ ZEROS;
        scale = digits_at_head(fraction) as usize;
        if scale == 0 || scale == 8 {
            return number_long(b, start);
        }
        mantissa = mantissa * WHOLE_TENS[scale & 7] + sum_digits(fraction, scale as u32);
        i += 1 + scale;
        c = peek(b, i);
    }
    if c | 0x20 == b'e' {
        return number_long(b, start);
    }
    let value = mantissa as f64 / TENS[scale];
    Ok((if negative { -value } else { value }, i))
}

/// Reads a whole number of at most five digits, if one stands there.
#[inline(always)]
pub(super) fn small(b: &[u8], start: usize) -> Option<(u64, usize)> {
    let values = load8(b, start) ^ ZEROS;
    let digits = digits_at_head(values);
    let next = start + digits as usize;
    let ends = matches!(peek(b, next), b',' | b'}' | b' ');
    let sound = digits.wrapping_sub(1) < 5 && ends && (values as u8 != 0 || digits == 1);
    sound.then(|| (sum_digits(values, digits), next))
}

#[inline(never)]
fn number_long(b: &[u8], start: usize) -> Result<(f64, usize), Detail> {
    let negative = peek(b, start) == b'-';
    let whole_at = start + usize::from(negative);
    if negative && b.get(whole_at..).is_some_and(|rest| rest.starts_with(b"Infinity")) {
        return Ok((f64::NEG_INFINITY, whole_at + 8));
    }
    let mut mantissa = 0;
    let mut i = digits(b, whole_at, &mut mantissa);
    let mut count = i - whole_at;
    if count == 0 || (count > 1 && b[whole_at] == b'0') {
        return Err(if i < b.len() { Detail::BadNumber } else { Detail::Ended });
    }
    let mut scale = 0;
    if peek(b, i) == b'.' {
        let fraction_at = i + 1;
        i = digits(b, fraction_at, &mut mantissa);
        scale = i - fraction_at;
        count += scale;
        if scale == 0 {
            return Err(Detail::BadNumber);
        }
    }
    if peek(b, i) | 0x20 == b'e' {
        i += 1 + usize::from(matches!(peek(b, i + 1), b'+' | b'-'));
        let power_at = i;
        i = digits(b, power_at, &mut 0);
        if i == power_at {
            return Err(Detail::BadNumber);
        }
    } else if count <= 19 && mantissa <= 1 << 53 && scale < TENS.len() {
        let value = mantissa as f64 / TENS[scale];
        return Ok((if negative { -value } else { value }, i));
    }
    let value = fast_float2::parse(&b[start..i]).map_err(|_| Detail::BadNumber)?;
    Ok((value, i))
}

/// Goes over digits and appends them to the sum, which wraps beyond 19 of them.
#[inline(always)]
fn digits(b: &[u8], mut i: usize, sum: &mut u64) -> usize {
    loop {
        let values = load8(b, i) ^ (ZEROS);
        let count = digits_at_head(values);
        if count < 8 {
            if count > 0 {
                *sum = sum.wrapping_mul(WHOLE_TENS[count as usize & 7]).wrapping_add(sum_digits(values, count));
            }
            return i + count as usize;
        }
        *sum = sum.wrapping_mul(100_000_000).wrapping_add(sum_digits(values, 8));
        i += 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<f64> {
        let first = text.as_bytes()[0];
        // What follows must neither be taken in nor matter.
        for tail in ["", ",", "}   ", " 123456789", "]\u{e9}\u{e9}\u{e9}\u{e9}"] {
            let padded = format!("{text}{tail}");
            match number(padded.as_bytes(), 0, first) {
                Ok((value, next)) if next == text.len() => {
                    assert_eq!(
                        number(text.as_bytes(), 0, first).map(|(value, _)| value.to_bits()),
                        Ok(value.to_bits())
                    );
                }
                _ => return None,
            }
        }
        number(text.as_bytes(), 0, first).ok().map(|(value, _)| value)
    }

    #[test]
    fn small_numbers_are_those_of_one_to_five_digits() {
        for (text, expected) in [("0,", Some((0, 1))), ("192}", Some((192, 3))), ("32767 ", Some((32_767, 5)))] {
            assert_eq!(small(text.as_bytes(), 0), expected, "{text}");
        }
        for text in ["", ",", "-1,", "01,", "00,", "123456,", "12345678,", "1.0,", "1e2,", "1", "1]"] {
            assert_eq!(small(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn malformed_numbers_are_refused() {
        for text in [
            "-",
            "-.5",
            "1.",
            "1.e5",
            "1e",
            "1e+",
            "1E-",
            "01",
            "-01",
            "00",
            "00.5",
            "1.5.5",
            "12345678.",
            "--1",
            "-Infinit",
            "1_0",
            "0x1",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn what_overflows_is_infinite_and_what_underflows_is_zero() {
        assert_eq!(read("1e999"), Some(f64::INFINITY));
        assert_eq!(read("-1e99999999999999999999"), Some(f64::NEG_INFINITY));
        assert_eq!(read("-Infinity"), Some(f64::NEG_INFINITY));
        assert_eq!(read("1e-99999999999999999999"), Some(0.0));
        assert_eq!(read("-0").map(f64::to_bits), Some((-0.0_f64).to_bits()));
        assert_eq!(read(&"9".repeat(400)), Some(f64::INFINITY));
        assert_eq!(read(&format!("0.{}1", "0".repeat(400))), Some(0.0));
    }

    fn same(text: &str) {
        assert_eq!(read(text).map(f64::to_bits), text.parse().ok().map(f64::to_bits), "{text}");
    }

    proptest! {
        #[test]
        fn floats_are_bit_exact(value in prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL | prop::num::f64::ZERO) {
            same(&format!("{value}"));
            same(&format!("{value:e}"));
            same(&format!("{value:.3}"));
            same(&format!("{value:.20e}"));
        }

        #[test]
        fn spelled_numbers_are_bit_exact(text in "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?") {
            same(&text);
        }

        #[test]
        fn short_numbers_are_bit_exact(text in "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?") {
            same(&text);
        }
    }
}
