//! JSON tokens: white space, strings and literals, eight bytes at a time.
//!
//! Every function takes the bytes and an index and gives the index after what it read, so that the parser's position
//! stays in a register. Past the end it reads zeros, which no token admits.

use super::reason::Detail;
use crate::names::{load8, load16};

pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
pub(super) const HIGHS: u64 = 0x8080_8080_8080_8080;

#[inline(always)]
pub(super) fn peek(b: &[u8], i: usize) -> u8 {
    if i < b.len() { b[i] } else { 0 }
}

/// The next byte that is not white space, and its index.
#[inline(always)]
pub(super) fn blank(b: &[u8], i: usize) -> (usize, u8) {
    let c = peek(b, i);
    if c > b' ' { (i, c) } else { blank_long(b, i) }
}

#[inline(never)]
fn blank_long(b: &[u8], mut i: usize) -> (usize, u8) {
    loop {
        match peek(b, i) {
            b' ' | b'\t' | b'\n' | b'\r' => i += 1,
            c => return (i, c),
        }
    }
}

/// Where the line at `i` ends: at the next line feed, or with the bytes.
#[inline(always)]
pub(super) fn line_end(b: &[u8], mut i: usize) -> usize {
    while let Some(part) = b.get(i..).and_then(|rest| rest.first_chunk::<32>()) {
        // Looked at whole, without a way out in between, so that it takes a few vector instructions.
        if part.iter().fold(0, |found, c| found | u8::from(*c == b'\n')) != 0 {
            break;
        }
        i += 32;
    }
    while i < b.len() {
        let word = load8(b, i) ^ u64::from_le_bytes([b'\n'; 8]);
        let found = word.wrapping_sub(ONES) & !word & HIGHS;
        if found != 0 {
            return i + (found.trailing_zeros() / 8) as usize;
        }
        i += 8;
    }
    b.len()
}

/// A string that starts at `start`, after its opening quote, and whose closing quote is at `end`.
#[derive(Clone, Copy, Default)]
pub(super) struct Text {
    pub start: usize,
    pub end: usize,
    pub escaped: bool,
}

impl Text {
    pub(super) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(super) fn next(&self) -> usize {
        self.end + 1
    }
}

/// High bits at (and possibly above, never below) the first quote, backslash or control character of the word.
#[inline(always)]
fn ends(word: u64) -> u64 {
    let quote = word ^ u64::from_le_bytes([b'"'; 8]);
    let backslash = word ^ u64::from_le_bytes([b'\\'; 8]);
    // Less the bound, a smaller byte borrows; none of the three changes the high bit, which excludes other bytes.
    (quote.wrapping_sub(ONES) | backslash.wrapping_sub(ONES) | word.wrapping_sub(ONES * 0x20)) & !word & HIGHS
}

/// Reads a string from the byte after its opening quote.
#[inline(always)]
pub(super) fn string(b: &[u8], start: usize) -> Result<Text, Detail> {
    let words = load16(b, start);
    let (first, second) = (ends(words as u64), ends((words >> 64) as u64));
    if first | second == 0 {
        return string_long(b, start);
    }
    let past = if first == 0 { 64 + second.trailing_zeros() } else { first.trailing_zeros() };
    let end = start + (past / 8) as usize;
    if peek(b, end) == b'"' { Ok(Text { start, end, escaped: false }) } else { string_escaped(b, start, end) }
}

#[inline(never)]
fn string_long(b: &[u8], start: usize) -> Result<Text, Detail> {
    let mut i = start + 16;
    loop {
        let found = ends(load8(b, i));
        if found != 0 {
            i += (found.trailing_zeros() / 8) as usize;
            break;
        }
        i += 8;
    }
    if peek(b, i) == b'"' { Ok(Text { start, end: i, escaped: false }) } else { string_escaped(b, start, i) }
}

/// Goes on at the first byte that is neither ordinary nor the closing quote.
#[cold]
#[inline(never)]
fn string_escaped(b: &[u8], start: usize, mut i: usize) -> Result<Text, Detail> {
    loop {
        match peek(b, i) {
            b'"' => return Ok(Text { start, end: i, escaped: true }),
            b'\\' => match peek(b, i + 1) {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => i += 2,
                b'u' => i += 2 + escape_digits(b, i + 2)?,
                _ => return Err(Detail::BadString),
            },
            0..0x20 => return Err(if i < b.len() { Detail::BadString } else { Detail::Ended }),
            _ => i += 1,
        }
    }
}

/// How many bytes the escape has after its `\u`: a character outside the basic plane needs two of them, and neither
/// stands alone.
fn escape_digits(b: &[u8], i: usize) -> Result<usize, Detail> {
    match hex4(b, i).ok_or(Detail::BadString)? {
        0xd800..0xdc00 => match (peek(b, i + 4), peek(b, i + 5), hex4(b, i + 6)) {
            (b'\\', b'u', Some(0xdc00..0xe000)) => Ok(10),
            _ => Err(Detail::Surrogate),
        },
        0xdc00..0xe000 => Err(Detail::Surrogate),
        _ => Ok(4),
    }
}

fn hex4(b: &[u8], i: usize) -> Option<u32> {
    b.get(i..i + 4)?.iter().try_fold(0, |sum, c| Some(sum << 4 | char::from(*c).to_digit(16)?))
}

/// Writes a string that `string` accepted without its escapes.
pub(super) fn unescape(b: &[u8], text: &Text, out: &mut String) {
    out.clear();
    let mut i = text.start;
    while i < text.end {
        let plain = b[i..text.end].iter().position(|c| *c == b'\\').unwrap_or(text.end - i);
        // Envelopes that are no UTF-8 were rejected, so that only bytes beyond this envelope's end can fail here; an
        // envelope that reaches so far is rejected too.
        out.push_str(std::str::from_utf8(&b[i..i + plain]).unwrap_or_default());
        i += plain;
        if i == text.end {
            break;
        }
        out.push(match peek(b, i + 1) {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let unit = hex4(b, i + 2).unwrap_or_default();
                let code = match hex4(b, i + 8) {
                    Some(low) if (0xd800..0xdc00).contains(&unit) => {
                        i += 6;
                        0x1_0000 + ((unit - 0xd800) << 10 | (low & 0x3ff))
                    }
                    _ => unit,
                };
                i += 4;
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            same => char::from(same),
        });
        i += 2;
    }
}

/// Reads one of the words that may stand for a value.
pub(super) fn word(b: &[u8], i: usize) -> Result<usize, Detail> {
    let words: [&[u8]; 6] = [b"null", b"true", b"false", b"NaN", b"Infinity", b"-Infinity"];
    let rest = b.get(i..).unwrap_or_default();
    if rest.is_empty() {
        return Err(Detail::Ended);
    }
    words.into_iter().find(|word| rest.starts_with(word)).map(|word| i + word.len()).ok_or(Detail::Unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Result<String, Detail> {
        let bytes = json.as_bytes();
        let text = string(bytes, 1)?;
        assert_eq!(text.next(), bytes.len(), "{json}");
        let mut out = String::new();
        unescape(bytes, &text, &mut out);
        assert!(text.escaped || out.as_bytes() == &bytes[text.start..text.end]);
        Ok(out)
    }

    #[test]
    fn escapes_are_those_of_json() {
        assert_eq!(
            read(r#""\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83D\uDE00\u0000~""#).unwrap(),
            "\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{20ac}\u{1f600}\0~"
        );
        assert_eq!(read("\"\u{7f}\u{80}\u{10ffff}\"").unwrap(), "\u{7f}\u{80}\u{10ffff}");
        for (json, detail) in [
            (r#""\x41""#, Detail::BadString),
            (r#""\u12""#, Detail::BadString),
            (r#""\u+123""#, Detail::BadString),
            (r#""\u00g0""#, Detail::BadString),
            ("\"a\tb\"", Detail::BadString),
            ("\"a\u{0}b\"", Detail::BadString),
            (r#""\ud800""#, Detail::Surrogate),
            (r#""\ud800\u0041""#, Detail::Surrogate),
            (r#""\ud800\ud800""#, Detail::Surrogate),
            (r#""\ud83dx\ude00""#, Detail::Surrogate),
            (r#""\udc00""#, Detail::Surrogate),
            ("\"abc", Detail::Ended),
            ("\"0123456789abcdefghijkl", Detail::Ended),
        ] {
            assert_eq!(read(json), Err(detail), "{json}");
        }
    }

    proptest! {
        #[test]
        fn lines_end_at_the_next_line_feed(text in "[a\\n\\r\u{80}\u{10a}\u{a0a}]{0,9}|[a-z]{0,80}(\\n[a-z]{0,80}){0,3}", at in 0..90_usize) {
            let bytes = text.as_bytes();
            let at = at.min(bytes.len());
            let expected = bytes[at..].iter().position(|c| *c == b'\n').map_or(bytes.len(), |found| at + found);
            prop_assert_eq!(line_end(bytes, at), expected);
        }

        #[test]
        fn strings_are_read_as_serde_json_writes_them(text in ".{0,40}|[\\x00-\\x7f]{0,40}") {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read(&json).unwrap(), text);
        }
    }
}
