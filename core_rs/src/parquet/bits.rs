//! Parquet's encodings of numbers: runs and packed bits, packed differences, and values as they are.

use super::thrift::{varint, zigzag};

/// A number of a column.
pub(super) trait Number: Copy + PartialOrd {
    const SIZE: usize;

    /// What tells it from every other.
    fn bits(self) -> u64;
    fn plain(self, to: &mut [u8]);
    /// As an integer; of floats, which have no differences worth packing, their bits.
    fn integer(self) -> i64;
    /// By how much an integer is above another, as its own width wraps around.
    fn above(self, other: Self) -> i64;
}

macro_rules! number {
    ($type:ty, $size:literal, |$it:ident| $bits:expr, $integer:expr, |$other:ident| $above:expr) => {
        impl Number for $type {
            const SIZE: usize = $size;

            fn bits(self) -> u64 {
                let $it = self;
                $bits
            }

            fn plain(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }

            fn integer(self) -> i64 {
                let $it = self;
                $integer
            }

            fn above(self, $other: Self) -> i64 {
                let $it = self;
                $above
            }
        }
    };
}

number!(i32, 4, |it| u64::from(it as u32), it.into(), |other| it.wrapping_sub(other).into());
number!(i64, 8, |it| it as u64, it, |other| it.wrapping_sub(other));
number!(f32, 4, |it| it.to_bits().into(), it.to_bits().into(), |other| it.integer() - other.integer());
number!(f64, 8, |it| it.to_bits(), it.to_bits() as i64, |other| it.integer().wrapping_sub(other.integer()));

/// Writes values as they are.
pub(super) fn plain<T: Number>(values: &[T], out: &mut Vec<u8>) {
    let from = out.len();
    out.resize(from + values.len() * T::SIZE, 0);
    for (value, to) in values.iter().zip(out[from..].chunks_exact_mut(T::SIZE)) {
        value.plain(to);
    }
}

const BLOCK: usize = 128;
const MINI: usize = 32;

/// Writes the first integer, then the differences of each to the one before: `DELTA_BINARY_PACKED`.
pub(super) fn steps<T: Number>(values: &[T], out: &mut Vec<u8>) {
    for count in [BLOCK, BLOCK / MINI, values.len()] {
        varint(count as u64, out);
    }
    varint(zigzag(values.first().map_or(0, |first| first.integer())), out);
    for from in (1..values.len()).step_by(BLOCK) {
        let block = &values[from..values.len().min(from + BLOCK)];
        let mut deltas = [0_i64; BLOCK];
        for ((to, value), before) in deltas.iter_mut().zip(block).zip(&values[from - 1..]) {
            *to = value.above(*before);
        }
        let used = &mut deltas[..block.len()];
        let least = used.iter().copied().min().unwrap_or(0);
        for delta in used {
            *delta = delta.wrapping_sub(least);
        }
        varint(zigzag(least), out);
        let minis = deltas.chunks(MINI);
        let widths = minis.map(|mini| 64 - mini.iter().fold(0, |all, delta| all | *delta as u64).leading_zeros());
        out.extend(widths.map(|width| width as u8));
        let widths_at = out.len() - BLOCK / MINI;
        for (at, mini) in deltas.chunks(MINI).enumerate() {
            pack(mini, |delta| *delta as u64, out[widths_at + at].into(), out);
        }
    }
}

/// Writes indexes, of which `width` bits each are enough, as runs of one and groups of eight.
pub(super) fn indexes(values: &[u32], width: u32, out: &mut Vec<u8>) {
    let mut from = 0;
    let mut at = 0;
    while at < values.len() {
        let first = values[at];
        // Whatever stands in groups comes in whole ones, but for the last.
        if values[at..].iter().take(RUN_MIN).filter(|value| **value == first).count() == RUN_MIN {
            let length = values[at..].iter().position(|value| *value != first).unwrap_or(values.len() - at);
            groups(&values[from..at], width, out);
            run(first, length, width, out);
            at += length;
            from = at;
        } else {
            at += 8;
        }
    }
    groups(&values[from..], width, out);
}

const RUN_MIN: usize = 16;

/// Writes one index many times.
pub(super) fn run(index: u32, length: usize, width: u32, out: &mut Vec<u8>) {
    varint((length as u64) << 1, out);
    out.extend_from_slice(&index.to_le_bytes()[..width.div_ceil(8) as usize]);
}

fn groups(values: &[u32], width: u32, out: &mut Vec<u8>) {
    if values.is_empty() {
        return;
    }
    varint((values.len().div_ceil(8) as u64) << 1 | 1, out);
    pack(values, |value| (*value).into(), width, out);
    let missing = values.len().next_multiple_of(8) - values.len();
    let bits = values.len() * width as usize;
    let whole = (values.len() + missing) * width as usize;
    out.resize(out.len() + whole / 8 - bits.div_ceil(8), 0);
}

/// Packs the low bits of each, the first lowest.
fn pack<T>(values: &[T], bits: impl Fn(&T) -> u64, width: u32, out: &mut Vec<u8>) {
    if width > 32 {
        let (mut held, mut count) = (0_u128, 0);
        for value in values {
            held |= u128::from(bits(value)) << count;
            count += width;
            if count >= 64 {
                out.extend_from_slice(&(held as u64).to_le_bytes());
                held >>= 64;
                count -= 64;
            }
        }
        out.extend_from_slice(&held.to_le_bytes()[..count.div_ceil(8) as usize]);
    } else if width > 0 {
        out.reserve(values.len() * width as usize / 8 + 8);
        let (mut held, mut count) = (0_u64, 0);
        for value in values {
            held |= bits(value) << count;
            count += width;
            if count >= 32 {
                out.extend_from_slice(&(held as u32).to_le_bytes());
                held >>= 32;
                count -= 32;
            }
        }
        out.extend_from_slice(&held.to_le_bytes()[..count.div_ceil(8) as usize]);
    }
}

/// The bits that an index below `count` needs; Parquet's readers expect at least one.
pub(super) fn width_of(count: usize) -> u32 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_packed_as_the_format_describes_it() {
        let mut out = Vec::new();
        steps(&[7_i64, 5, 3, 1, 2, 3, 4, 5], &mut out);
        // The format's own example: block size, miniblocks, count, first value; least difference -2, then two bits each.
        assert_eq!(out[..9], [0x80, 1, 4, 8, 14, 3, 2, 0, 0]);
        assert_eq!(out[10..12], [0b1100_0000, 0b0011_1111]);
        assert_eq!(out.len(), 10 + 8);
    }

    #[test]
    fn runs_and_groups_take_turns() {
        let mut out = Vec::new();
        let values: Vec<u32> = (0..8).chain([5; 20]).chain([1, 2]).collect();
        indexes(&values, 3, &mut out);
        assert_eq!(out, [3, 0b1000_1000, 0b1100_0110, 0b1111_1010, 40, 5, 3, 0b0001_0001, 0, 0]);
    }

    #[test]
    fn extremes_wrap_around() {
        let mut out = Vec::new();
        steps(&[i64::MIN, i64::MAX, 0], &mut out);
        steps(&[i32::MIN, i32::MAX, 0], &mut out);
        assert!(!out.is_empty());
        assert_eq!((width_of(1), width_of(2), width_of(3), width_of(256), width_of(257)), (1, 1, 2, 8, 9));
    }
}
