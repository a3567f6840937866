//! Walks JSON values of any nesting without recursion: what is skipped, and what must be explained.

use super::number::number;
use super::reason::Detail;
use super::scan::{blank, peek, string, word};

/// The open arrays and objects, one bit each (1 is an object), so that a mebibyte of brackets takes 128 KiB.
#[derive(Default)]
pub(super) struct Nesting {
    words: Vec<u64>,
    depth: usize,
}

impl Nesting {
    fn open(&mut self, object: bool) {
        let (word, bit) = (self.depth / 64, self.depth % 64);
        if word == self.words.len() {
            self.words.push(0);
        }
        self.words[word] = self.words[word] & !(1 << bit) | u64::from(object) << bit;
        self.depth += 1;
    }

    fn in_object(&self) -> bool {
        let last = self.depth - 1;
        self.words[last / 64] >> (last % 64) & 1 == 1
    }
}

/// Goes over the value at `i`, in which at most `depth` arrays and objects may be open at once. A failure has its place.
#[inline(never)]
pub(super) fn value(b: &[u8], mut i: usize, depth: u32, nesting: &mut Nesting) -> Result<usize, (Detail, usize)> {
    nesting.depth = 0;
    loop {
        // Here a value starts.
        let c = peek(b, i);
        if matches!(c, b'{' | b'[') {
            if nesting.depth >= depth as usize {
                return Err((Detail::TooDeep, i));
            }
            nesting.open(c == b'{');
            let next;
            (i, next) = blank(b, i + 1);
            // The closing bracket follows the opening one by two in ASCII.
            if next != c + 2 {
                if c == b'{' {
                    i = key(b, i)?;
                }
                continue;
            }
            nesting.depth -= 1;
            i += 1;
        } else {
            i = scalar(b, i).map_err(|detail| (detail, i))?;
        }
        // Here a value has ended.
        loop {
            if nesting.depth == 0 {
                return Ok(i);
            }
            let next;
            (i, next) = blank(b, i);
            match (next, nesting.in_object()) {
                (b',', true) => {
                    i = key(b, blank(b, i + 1).0)?;
                    break;
                }
                (b',', false) => {
                    i = blank(b, i + 1).0;
                    break;
                }
                (b'}', true) | (b']', false) => {
                    nesting.depth -= 1;
                    i += 1;
                }
                _ => return Err(unexpected(b, i)),
            }
        }
    }
}

/// Goes over a key and its colon, to where its value starts.
fn key(b: &[u8], i: usize) -> Result<usize, (Detail, usize)> {
    if peek(b, i) != b'"' {
        return Err(unexpected(b, i));
    }
    let text = string(b, i + 1).map_err(|detail| (detail, i))?;
    let (colon, c) = blank(b, text.next());
    if c != b':' {
        return Err(unexpected(b, colon));
    }
    Ok(blank(b, colon + 1).0)
}

fn scalar(b: &[u8], i: usize) -> Result<usize, Detail> {
    match peek(b, i) {
        b'"' => string(b, i + 1).map(|text| text.next()),
        c @ (b'-' | b'0'..=b'9') => number(b, i, c).map(|(_, next)| next),
        _ => word(b, i),
    }
}

fn unexpected(b: &[u8], i: usize) -> (Detail, usize) {
    (if i < b.len() { Detail::Unexpected } else { Detail::Ended }, i.min(b.len()))
}

/// Goes over a whole body, which is one value and white space around it.
pub(super) fn document(body: &[u8], depth: u32, nesting: &mut Nesting) -> Result<(), (Detail, usize)> {
    let start = blank(body, 0).0;
    let end = blank(body, value(body, start, depth, nesting)?).0;
    if end == body.len() { Ok(()) } else { Err((Detail::Trailing, end)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, depth: u32) -> Result<(), (Detail, usize)> {
        document(json.as_bytes(), depth, &mut Nesting::default())
    }

    #[test]
    fn documents_of_every_kind_are_walked() {
        for json in [
            "1",
            " null ",
            "\"\"",
            "[]",
            "{}",
            "[1,[2,{\"a\":[]}],{}]",
            "{\"a\":{\"b\":[NaN,-Infinity,Infinity]},\"a\":true}",
            "[ ]",
            "{ }\n",
        ] {
            assert_eq!(check(json, 9), Ok(()), "{json}");
        }
    }

    #[test]
    fn failures_name_their_place() {
        for (json, detail, at) in [
            ("", Detail::Ended, 0),
            ("[1,]", Detail::Unexpected, 3),
            ("[1 2]", Detail::Unexpected, 3),
            ("[1", Detail::Ended, 2),
            ("[}", Detail::Unexpected, 1),
            ("{]", Detail::Unexpected, 1),
            ("[1}", Detail::Unexpected, 2),
            ("{\"a\"}", Detail::Unexpected, 4),
            ("{\"a\":}", Detail::Unexpected, 5),
            ("{\"a\":1,}", Detail::Unexpected, 7),
            ("{a:1}", Detail::Unexpected, 1),
            ("{\"a\":1]", Detail::Unexpected, 6),
            ("[] []", Detail::Trailing, 3),
            ("nul", Detail::Unexpected, 0),
            ("-NaN", Detail::BadNumber, 0),
            ("+1", Detail::Unexpected, 0),
            (".5", Detail::Unexpected, 0),
            ("1.", Detail::BadNumber, 0),
            ("'a'", Detail::Unexpected, 0),
            ("[\"a\nb\"]", Detail::BadString, 1),
            ("\u{feff}1", Detail::Unexpected, 0),
        ] {
            assert_eq!(check(json, 9), Err((detail, at)), "{json}");
        }
    }

    #[test]
    fn depth_counts_open_brackets() {
        assert_eq!(check("[[{\"a\":[]}],[]]", 4), Ok(()));
        assert_eq!(check("[[{\"a\":[]}],[]]", 3), Err((Detail::TooDeep, 7)));
        assert_eq!(check("1", 0), Ok(()));
        assert_eq!(check("[]", 0), Err((Detail::TooDeep, 0)));
    }

    #[test]
    fn a_mebibyte_of_brackets_is_walked() {
        let deep = "[{\"\":".repeat(200_000) + "1" + &"}]".repeat(200_000);
        assert_eq!(check(&deep, u32::MAX), Ok(()));
        assert_eq!(check(&"[".repeat(1 << 20), u32::MAX), Err((Detail::Ended, 1 << 20)));
    }
}
