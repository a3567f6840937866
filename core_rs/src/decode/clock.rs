//! RFC 3339 times, with the date read last kept at hand: a cache that saves the calendar, and changes no result.

use super::number::{digits_at_head, sum_digits};
use super::reason::Detail;
use super::scan::{peek, string, unescape};
use crate::names::load8;
use crate::time::{midnight_us, rfc3339_us};

/// The third byte and the sixth of `hh:mm:ss`.
const COLONS: u64 = 0x0000_ff00_00ff_0000;
/// `YYYY-MM-DDT` is one word and the first three bytes of the next.
const DATE_REST: u64 = 0x00ff_ffff;
/// Microseconds of one unit in the last of so many digits of a fraction.
const UNITS_US: [u64; 7] = [1_000_000, 100_000, 10_000, 1_000, 100, 10, 1];

#[derive(Default)]
pub(super) struct Clock {
    date: [u64; 2],
    midnight: i64,
}

impl Clock {
    /// Reads the time that starts at `i`, after its opening quote: microseconds, if it is one, and the index after it.
    #[inline(always)]
    pub(super) fn read(&mut self, b: &[u8], i: usize, unescaped: &mut String) -> Result<(Option<i64>, usize), Detail> {
        let day = [load8(b, i), load8(b, i + 8) & DATE_REST];
        let clock = load8(b, i + 11) ^ u64::from_le_bytes(*b"00:00:00");
        if day == self.date && clock & COLONS == 0 && digits_at_head(clock) == 8 {
            // No byte exceeds 9, so that tens and ones can be joined in all three fields at once.
            let fields = clock.wrapping_mul(10).wrapping_add(clock >> 8);
            let (hour, minute, second) = (fields & 0xff, fields >> 24 & 0xff, fields >> 48 & 0xff);
            let mut us = ((hour * 60 + minute) * 60 + second) * 1_000_000;
            let mut end = i + 19;
            let mut formed = hour < 24 && minute < 60 && second < 60;
            if peek(b, end) == b'.' {
                let fraction = load8(b, end + 1) ^ u64::from_le_bytes(*b"00000000");
                let digits = digits_at_head(fraction);
                formed &= (1..=6).contains(&digits);
                if formed {
                    us += sum_digits(fraction, digits) * UNITS_US[digits as usize];
                    end += 1 + digits as usize;
                }
            }
            if formed && peek(b, end) == b'Z' && peek(b, end + 1) == b'"' {
                return Ok((Some(self.midnight + us as i64), end + 2));
            }
        }
        self.read_any(b, i, unescaped)
    }

    #[inline(never)]
    fn read_any(&mut self, b: &[u8], i: usize, unescaped: &mut String) -> Result<(Option<i64>, usize), Detail> {
        let text = string(b, i)?;
        if text.escaped {
            unescape(b, &text, unescaped);
            return Ok((rfc3339_us(unescaped.as_bytes()), text.next()));
        }
        let written = &b[i..text.end];
        let us = rfc3339_us(written);
        if let (Some(_), Some(midnight)) = (us, midnight_us(written)) {
            *self = Clock { date: [load8(b, i), load8(b, i + 8) & DATE_REST], midnight };
        }
        Ok((us, text.next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_date_at_hand_changes_nothing(
            time in "2026-11-2[12][Tt ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?([Zz]|[+-][0-2][0-9]:[0-6][0-9]|)",
            at in 0..25_usize,
            other: char,
            change: bool,
        ) {
            let mut time: Vec<char> = time.chars().collect();
            if change && at < time.len() && other >= ' ' && !"\"\\".contains(other) {
                time[at] = other;
            }
            let time: String = time.into_iter().collect();
            let json = format!("{time}\" ");
            let mut clock = Clock::default();
            clock.read(b"2026-11-21T00:00:00Z\"", 0, &mut String::new()).unwrap();
            let (us, next) = clock.read(json.as_bytes(), 0, &mut String::new()).unwrap();
            prop_assert_eq!((us, next), (rfc3339_us(time.as_bytes()), time.len() + 1));
        }
    }
}
