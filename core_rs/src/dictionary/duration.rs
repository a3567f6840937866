//! Durations (`10s`, `5min`) and windows (`10s`, `5min/1min`, `session/10min`) as a dictionary writes them.

use super::compiled::Window;
use crate::limits::DURATION_MAX_US;

/// Unit and its microseconds, smallest first.
const UNITS: [(&str, i64); 7] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
    ("w", 604_800_000_000),
];

pub(super) const ALLOWED: &str =
    "allowed: a whole number and us, ms, s, min, h, d or w, at most 36600d, such as \"500ms\" or \"5min\"";

/// Microseconds, or `None` for anything else than a whole number and a unit within [`DURATION_MAX_US`].
pub(super) fn parse(text: &str) -> Option<i64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = UNITS.iter().find(|&&(name, _)| name == unit)?.1;
    let duration_us = number.parse::<i64>().ok()?.checked_mul(scale)?;
    (duration_us <= DURATION_MAX_US).then_some(duration_us)
}

/// The duration as one would write it, in the largest unit that divides it.
pub(crate) fn format(duration_us: i64) -> String {
    let fits = |&&(_, scale): &&(&str, i64)| duration_us != 0 && duration_us % scale == 0;
    let (unit, scale) = UNITS.iter().rev().find(fits).copied().unwrap_or(("s", 1));
    format!("{}{unit}", duration_us / scale)
}

/// A window definition, or what is allowed instead.
pub(super) fn parse_window(text: &str) -> Result<Window, String> {
    let (length, hop) = text.split_once('/').unwrap_or((text, text));
    let window = match (length, parse(length), parse(hop)) {
        ("session", _, Some(gap_us)) => Window::session(text, gap_us),
        (_, Some(length_us), Some(hop_us)) => Window::fixed(text, length_us, hop_us),
        _ => {
            return Err(format!(
                "not a window; allowed: a length, length/hop, or session/gap, such as \"10s\", \"5min/1min\" or \
                 \"session/10min\"; {ALLOWED}"
            ));
        }
    };
    check_window(&window).map(|()| window)
}

/// Whether the parts of a window agree.
pub(super) fn check_window(window: &Window) -> Result<(), String> {
    let Window { name: _, length_us, hop_us, gap_us } = *window;
    if let Some(gap_us) = gap_us {
        return match gap_us {
            1..=DURATION_MAX_US => Ok(()),
            _ => Err("a session has no gap; allowed: a gap above zero, at most 36600d".to_owned()),
        };
    }
    if length_us <= 0 || hop_us <= 0 || length_us > DURATION_MAX_US {
        Err("a window has no length; allowed: a length and a hop above zero, at most 36600d".to_owned())
    } else if hop_us > length_us || length_us % hop_us != 0 {
        Err("the hop does not divide the length; allowed: a hop that the length is a multiple of".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_whole_number_and_a_unit() {
        let good = [("0s", 0), ("500ms", 500_000), ("10s", 10_000_000), ("5min", 300_000_000), ("8h", 28_800_000_000)];
        for (text, duration_us) in good {
            assert_eq!(parse(text), Some(duration_us), "{text}");
        }
        assert_eq!(parse("36600d"), Some(DURATION_MAX_US));
        for bad in ["", "s", "10", "10 s", "-1s", "1.5h", "10m", "10S", "36601d", "99999999999999999999s", "１s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_is_written_in_its_largest_unit() {
        for text in ["0s", "7us", "500ms", "90s", "2min", "8h", "1d", "2w"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    #[test]
    fn a_hop_divides_its_length_and_a_session_has_a_gap() {
        assert_eq!(parse_window("5min/1min").unwrap().hop_us, 60_000_000);
        assert_eq!(parse_window("10s").unwrap().hop_us, 10_000_000);
        assert_eq!(parse_window("session/10min").unwrap(), Window::session("session/10min", 600_000_000));
        for bad in [
            "session",
            "session/0s",
            "session/",
            "10s/session",
            "0s",
            "10s/0s",
            "10s/3s",
            "1s/10s",
            "/",
            "10s/",
            "10s/1s/1s",
            "soon",
        ] {
            assert!(parse_window(bad).is_err(), "{bad}");
        }
    }
}
