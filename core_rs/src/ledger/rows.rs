//! The canonical bytes of rows (`dtl1`), and the hashes of the leaves over them.

use super::form::{Form, schema_id};
use super::merkle::{Hash, LEAF_PREFIX};
use sha2::{Digest, Sha256};

/// Rows in a leaf: what the proof of a single one discloses.
pub const LEAF_ROWS: usize = 64;

const MAGIC: &[u8] = b"dtl1/rows\0";

/// The values of one column, a null's own value being zero or empty.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    Int16(&'a [i16]),
    Int32(&'a [i32]),
    Int64(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Bool(&'a [bool]),
    /// Codes of distinct names.
    Coded {
        codes: &'a [i32],
        names: &'a [&'a str],
    },
    /// Row `i` is `bytes[ends[i]..ends[i + 1]]`.
    Bytes {
        ends: &'a [i32],
        bytes: &'a [u8],
    },
}

/// Which rows of a column are null.
#[derive(Clone, Copy, Debug)]
pub enum Nulls<'a> {
    None,
    All,
    /// All but those that are marked.
    But(&'a [bool]),
}

/// One column of the rows to be hashed.
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    pub form: Form,
    pub values: Values<'a>,
    pub nulls: Nulls<'a>,
    /// Whether there is but one value, which every row holds.
    pub constant: bool,
}

/// Writes the leaves of one file's rows.
pub struct Leaves<'a> {
    columns: &'a [Column<'a>],
    rows: usize,
    /// The prefix of a leaf's hash, then what all leaves begin with.
    bytes: Vec<u8>,
    head: usize,
}

impl<'a> Leaves<'a> {
    /// Leaves of `rows` rows in the order of their locators, for the batch of that UUID.
    pub fn new(schema_text: &str, batch: &[u8; 16], columns: &'a [Column<'a>], rows: usize) -> Self {
        let mut bytes = vec![LEAF_PREFIX];
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&schema_id(schema_text));
        bytes.extend_from_slice(batch);
        let head = bytes.len();
        Self { columns, rows, bytes, head }
    }

    /// The hash of every leaf.
    pub fn hashes(&mut self) -> Vec<Hash> {
        (0..self.rows).step_by(LEAF_ROWS).map(|from| self.hash(from, from as u64)).collect()
    }

    /// The bytes of the leaf over all rows, at most 64, of which the first has that number in its file.
    pub fn leaf(&mut self, first: u64) -> Vec<u8> {
        self.write(0, first);
        self.bytes[1..].to_vec()
    }

    fn hash(&mut self, from: usize, first: u64) -> Hash {
        self.write(from, first);
        Sha256::digest(&self.bytes).into()
    }

    fn write(&mut self, from: usize, first: u64) {
        let rows = from..self.rows.min(from + LEAF_ROWS);
        let out = &mut self.bytes;
        out.truncate(self.head);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&(rows.len() as u16).to_le_bytes());
        for column in self.columns {
            column.write(rows.clone(), out);
        }
    }
}

type Range = std::ops::Range<usize>;

impl Column<'_> {
    fn write(&self, rows: Range, out: &mut Vec<u8>) {
        self.write_nulls(rows.clone(), out);
        match self.values {
            Values::Int16(values) => self.integers(values, rows, out),
            Values::Int32(values) => self.integers(values, rows, out),
            Values::Int64(values) => self.integers(values, rows, out),
            Values::Float32(values) => self.floats(values, rows, out),
            Values::Float64(values) => self.floats(values, rows, out),
            Values::Bool(values) => {
                self.of_leaf(values, rows, |values| out.extend(values.iter().map(|one| u8::from(*one))));
            }
            Values::Coded { codes, names } => {
                // A null has the code of no name.
                let name = |code: i32| names.get(code as usize).map_or(&[][..], |name| name.as_bytes());
                self.of_leaf(codes, rows, |codes| runs(codes, out, |code, out| counted(name(*code), out)));
            }
            Values::Bytes { ends, bytes } => {
                let values: Vec<&[u8]> = rows.map(|row| &bytes[ends[row] as usize..ends[row + 1] as usize]).collect();
                runs(&values, out, |value, out| counted(value, out));
            }
        }
    }

    /// Hands on a leaf's rows of the values; of a constant column the one value as often as there are rows.
    fn of_leaf<T: Copy>(&self, values: &[T], rows: Range, write: impl FnOnce(&[T])) {
        if self.constant { write(&[values[0]; LEAF_ROWS][..rows.len()]) } else { write(&values[rows]) }
    }

    fn write_nulls(&self, rows: Range, out: &mut Vec<u8>) {
        let bits = |valid: &[bool]| valid.iter().enumerate().fold(0, |bits, (at, valid)| bits | u8::from(*valid) << at);
        match self.nulls {
            Nulls::All => {
                out.push(1);
                out.resize(out.len() + rows.len().div_ceil(8), 0);
            }
            Nulls::But(valid) if valid[rows.clone()].contains(&false) => {
                out.push(1);
                out.extend(valid[rows].chunks(8).map(bits));
            }
            _ => out.push(0),
        }
    }

    fn integers<T: Copy + PartialEq + Into<i64>>(&self, values: &[T], rows: Range, out: &mut Vec<u8>) {
        self.of_leaf(values, rows, |values| match self.form {
            Form::Code => runs(values, out, |value, out| out.extend_from_slice(&(*value).into().to_le_bytes())),
            Form::TimeSteps | Form::IntegerSteps => {
                let mut bytes = [0; LEAF_ROWS * VARINT_BYTES_MAX];
                let (mut length, mut before) = (0, 0_i64);
                for value in values {
                    let now = (*value).into();
                    length = varint(zigzag(now.wrapping_sub(before)), &mut bytes, length);
                    before = now;
                }
                out.extend_from_slice(&bytes[..length]);
            }
            _ => fixed(values, out, |value| value.into().to_le_bytes()),
        });
    }

    fn floats<T: Copy + Into<f64>>(&self, values: &[T], rows: Range, out: &mut Vec<u8>) {
        // Adding zero makes a negative zero the other one.
        let bits = |value: T| (value.into() + 0.0).to_bits();
        self.of_leaf(values, rows, |values| {
            if self.form == Form::FloatRuns {
                let mut all = [0; LEAF_ROWS];
                all.iter_mut().zip(values).for_each(|(to, value)| *to = bits(*value));
                runs(&all[..values.len()], out, |bits, out| out.extend_from_slice(&bits.to_le_bytes()));
            } else {
                fixed(values, out, |value| bits(value).to_le_bytes());
            }
        });
    }
}

/// Writes the number of maximal runs, then of each its length and value.
fn runs<T: PartialEq>(mut values: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    let count_at = out.len();
    out.extend_from_slice(&[0, 0]);
    let mut count = 0_u16;
    while let Some(first) = values.first() {
        let length = values.iter().position(|value| value != first).unwrap_or(values.len());
        out.extend_from_slice(&(length as u16).to_le_bytes());
        write(first, out);
        count += 1;
        values = &values[length..];
    }
    out[count_at..count_at + 2].copy_from_slice(&count.to_le_bytes());
}

fn fixed<T: Copy>(values: &[T], out: &mut Vec<u8>, eight: impl Fn(T) -> [u8; 8]) {
    let mut bytes = [0; LEAF_ROWS * 8];
    for (value, to) in values.iter().zip(bytes.chunks_exact_mut(8)) {
        to.copy_from_slice(&eight(*value));
    }
    out.extend_from_slice(&bytes[..values.len() * 8]);
}

fn counted(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Small magnitudes to small numbers: 0, -1, 1, -2 ... to 0, 1, 2, 3 ...
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const VARINT_BYTES_MAX: usize = 10;

/// Writes LEB128 at `at`, seven bits a byte, lowest first, in as few bytes as it takes; returns where it ends.
fn varint(mut value: u64, out: &mut [u8], mut at: usize) -> usize {
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    fn all(form: Form, values: Values<'_>) -> Column<'_> {
        Column { form, values, nulls: Nulls::None, constant: false }
    }

    #[test]
    fn a_known_leaf_has_its_known_hash() {
        let columns = [
            all(Form::Time, Values::Int64(&[1_763_724_000_000_000, 1_763_724_000_600_000])),
            all(Form::Text, Values::Coded { codes: &[0, 0], names: &["a/b"] }),
            Column { nulls: Nulls::But(&[true, false]), ..all(Form::Float, Values::Float64(&[1.5, 0.0])) },
            all(Form::Code, Values::Int16(&[192, 0])),
        ];
        let schema = "dtl1/schema\nts ts_us\ntag str\nvalue f64\nquality code\n";
        let mut batch = [0; 16];
        batch[15] = 1;
        let hashes = Leaves::new(schema, &batch, &columns, 2).hashes();
        assert_eq!(hex(&hashes[0]), "7a57c8c5c8d45867acf8dd0aef56ffc1f15b3965ae279cecaaf835df15ba966c");
    }

    #[test]
    fn steps_are_zigzag_and_as_short_as_they_can_be() {
        let columns = [all(Form::IntegerSteps, Values::Int64(&[5, 4, 4 + 64, i64::MIN]))];
        let leaf = Leaves::new("", &[0; 16], &columns, 4).leaf(0);
        let body = &leaf[leaf.len() - 15..];
        assert_eq!(body[..5], [0, 10, 1, 0x80, 1]);
        // From 68 down to the least: the difference wraps around to the greatest but 67, doubled by zigzag.
        assert_eq!(body[5..], [0xf8, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn a_constant_column_is_written_as_if_it_were_told_row_by_row() {
        let many: [f64; 70] = [-0.0; 70];
        let zeros = [0_i32; 70];
        let told = [
            all(Form::Float, Values::Float64(&many)),
            all(Form::Code, Values::Int32(&zeros)),
            all(Form::IntegerSteps, Values::Int32(&zeros)),
            Column { nulls: Nulls::But(&[false; 70]), ..all(Form::FloatRuns, Values::Float64(&many)) },
        ];
        let once = [
            Column { constant: true, ..all(Form::Float, Values::Float64(&[0.0])) },
            Column { constant: true, ..all(Form::Code, Values::Int32(&[0])) },
            Column { constant: true, ..all(Form::IntegerSteps, Values::Int32(&[0])) },
            Column { nulls: Nulls::All, constant: true, ..all(Form::FloatRuns, Values::Float64(&[0.0])) },
        ];
        let hashes = |columns: &[Column<'_>]| Leaves::new("schema", &[3; 16], columns, 70).hashes();
        assert_eq!(hashes(&told), hashes(&once));
        assert_eq!(hashes(&told).len(), 2);
    }
}
