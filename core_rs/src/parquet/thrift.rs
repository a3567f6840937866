//! Thrift's compact protocol: as much of it as the headers of pages and the footer of a file need.

const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
pub(super) const I32: u8 = 5;
const I64: u8 = 6;
pub(super) const BINARY: u8 = 8;
const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// The fields of one structure, in the order of their numbers.
#[derive(Default)]
pub(super) struct Thrift {
    bytes: Vec<u8>,
    last: u8,
}

impl Thrift {
    /// Writes the fields of a structure, and its end.
    pub(super) fn of(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut fields = Self::default();
        write(&mut fields);
        fields.bytes.push(0);
        fields.bytes
    }

    pub(super) fn i32(&mut self, field: u8, value: i32) {
        self.head(field, I32);
        varint(zigzag(value.into()), &mut self.bytes);
    }

    pub(super) fn i64(&mut self, field: u8, value: i64) {
        self.head(field, I64);
        varint(zigzag(value), &mut self.bytes);
    }

    pub(super) fn byte(&mut self, field: u8, value: u8) {
        self.head(field, BYTE);
        self.bytes.push(value);
    }

    pub(super) fn bool(&mut self, field: u8, value: bool) {
        self.head(field, if value { TRUE } else { FALSE });
    }

    pub(super) fn binary(&mut self, field: u8, value: &[u8]) {
        self.head(field, BINARY);
        counted(value, &mut self.bytes);
    }

    pub(super) fn structure(&mut self, field: u8, write: impl FnOnce(&mut Self)) {
        self.head(field, STRUCT);
        self.bytes.append(&mut Self::of(write));
    }

    /// Writes a list of elements, each of which is bytes of that kind already.
    pub(super) fn list(&mut self, field: u8, kind: u8, elements: &[Vec<u8>]) {
        self.head(field, LIST);
        if elements.len() < 15 {
            self.bytes.push((elements.len() as u8) << 4 | kind);
        } else {
            self.bytes.push(0xf0 | kind);
            varint(elements.len() as u64, &mut self.bytes);
        }
        for element in elements {
            self.bytes.extend_from_slice(element);
        }
    }

    fn head(&mut self, field: u8, kind: u8) {
        // No structure of Parquet that is written here leaves out more than fourteen fields in a row.
        self.bytes.push((field - self.last) << 4 | kind);
        self.last = field;
    }
}

/// A string as an element of a list.
pub(super) fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    counted(text.as_bytes(), &mut bytes);
    bytes
}

/// A number as an element of a list.
pub(super) fn number(value: i32) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(zigzag(value.into()), &mut bytes);
    bytes
}

fn counted(value: &[u8], out: &mut Vec<u8>) {
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Small magnitudes to small numbers: 0, -1, 1, -2 ... to 0, 1, 2, 3 ...
pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// LEB128, as Parquet's own encodings write their counts too.
pub(super) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_told_by_their_distance_and_end_with_zero() {
        let bytes = Thrift::of(|out| {
            out.i32(1, -1);
            out.bool(4, true);
            out.structure(5, |out| out.binary(2, b"ab"));
            out.list(6, I32, &[number(3), number(64)]);
        });
        assert_eq!(bytes, [0x15, 1, 0x31, 0x1c, 0x28, 2, b'a', b'b', 0, 0x19, 0x25, 6, 0x80, 1, 0]);
    }
}
