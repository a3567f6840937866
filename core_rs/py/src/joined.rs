//! A column of a data file while it is made: read by the leaves, then handed to Arrow.

use alumicatalyst_core::ledger::{Column as LeafColumn, Form, Nulls, Values};
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, Int32Array, PrimitiveArray, StringArray, new_null_array,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use std::sync::Arc;

/// All rows of a column. A null's own value is zero or empty, and its code that of no name.
pub(crate) struct Joined {
    pub(crate) rows: usize,
    /// One for each row, or a single one that every row holds: most columns of telemetry are of that kind.
    pub(crate) values: Owned,
    /// Which rows are not null; None: all alike.
    pub(crate) valid: Option<Vec<bool>>,
    /// Every row is null.
    pub(crate) null: bool,
}

pub(crate) enum Owned {
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Time(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Bool(Vec<bool>),
    /// Codes of names that are distinct and in order.
    Coded {
        codes: Vec<i32>,
        names: Vec<String>,
    },
    /// Row `i` is `bytes[ends[i]..ends[i + 1]]`, as of the next.
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    Binary {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
}

/// The code of a null, which names nothing.
pub(crate) const NO_NAME: i32 = -1;

impl Owned {
    pub(crate) fn has_nan(&self) -> bool {
        match self {
            Self::Float32(values) => values.iter().any(|value| value.is_nan()),
            Self::Float64(values) => values.iter().any(|value| value.is_nan()),
            _ => false,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Int16(values) => values.len(),
            Self::Int32(values) | Self::Coded { codes: values, .. } => values.len(),
            Self::Int64(values) | Self::Time(values) => values.len(),
            Self::Float32(values) => values.len(),
            Self::Float64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::Text { ends, .. } | Self::Binary { ends, .. } => ends.len() - 1,
        }
    }
}

impl Joined {
    fn constant(&self) -> bool {
        self.values.len() < self.rows
    }

    /// A column of names or times that are never null, each row at its place.
    pub(crate) fn placed(mut self, places: Option<&[u32]>) -> Self {
        if let Some(places) = places.filter(|_| !self.constant()) {
            match &mut self.values {
                Owned::Time(values) => *values = placed(values, places),
                Owned::Coded { codes, .. } => *codes = placed(codes, places),
                _ => unreachable!("rows are sorted by names and times"),
            }
        }
        self
    }

    /// The codes of a column of names, and how many names there are.
    pub(crate) fn codes(&self) -> Option<(&[i32], usize)> {
        let Owned::Coded { codes, names } = &self.values else { return None };
        Some((codes, names.len()))
    }

    pub(crate) fn times(&self) -> Option<&[i64]> {
        let Owned::Time(times) = &self.values else { return None };
        Some(times)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let Owned::Coded { names, .. } = &self.values else { return Vec::new() };
        names.iter().map(String::as_str).collect()
    }

    /// The column as leaves read it.
    pub(crate) fn leaf_column<'a>(&'a self, form: Form, names: &'a [&'a str]) -> LeafColumn<'a> {
        let values = match &self.values {
            Owned::Int16(values) => Values::Int16(values),
            Owned::Int32(values) => Values::Int32(values),
            Owned::Int64(values) | Owned::Time(values) => Values::Int64(values),
            Owned::Float32(values) => Values::Float32(values),
            Owned::Float64(values) => Values::Float64(values),
            Owned::Bool(values) => Values::Bool(values),
            Owned::Coded { codes, .. } => Values::Coded { codes, names },
            Owned::Text { ends, bytes } | Owned::Binary { ends, bytes } => Values::Bytes { ends, bytes },
        };
        let nulls = if self.null { Nulls::All } else { self.valid.as_deref().map_or(Nulls::None, Nulls::But) };
        LeafColumn { form, values, nulls, constant: self.constant() }
    }

    /// The column as an array of that type, which is the table's own.
    pub(crate) fn into_array(self, kind: &DataType) -> ArrayRef {
        if self.null {
            return new_null_array(kind, self.rows);
        }
        let Self { rows, values, valid, .. } = self;
        let nulls = valid.map(|valid| NullBuffer::new(BooleanBuffer::from(valid)));
        match values {
            Owned::Int16(values) => Arc::new(numbers::<Int16Type>(values, rows, nulls)),
            Owned::Int32(values) => Arc::new(numbers::<Int32Type>(values, rows, nulls)),
            Owned::Int64(values) => Arc::new(numbers::<Int64Type>(values, rows, nulls)),
            Owned::Time(values) => {
                Arc::new(numbers::<TimestampMicrosecondType>(values, rows, nulls).with_timezone("UTC"))
            }
            Owned::Float32(values) => Arc::new(numbers::<Float32Type>(values, rows, nulls)),
            Owned::Float64(values) => Arc::new(numbers::<Float64Type>(values, rows, nulls)),
            Owned::Bool(values) => Arc::new(BooleanArray::new(BooleanBuffer::from(values), nulls)),
            Owned::Coded { mut codes, names } => {
                // A key must be one of the names even where it is null.
                codes.iter_mut().filter(|code| **code == NO_NAME).for_each(|code| *code = 0);
                let keys: Int32Array = numbers::<Int32Type>(codes, rows, nulls);
                let names = Arc::new(StringArray::from(names));
                Arc::new(DictionaryArray::<Int32Type>::try_new(keys, names).expect("codes are those of the names"))
            }
            Owned::Text { ends, bytes } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(StringArray::try_new(ends, Buffer::from_vec(bytes), nulls).expect("whole texts, joined"))
            }
            Owned::Binary { ends, bytes } => {
                let ends = OffsetBuffer::new(ScalarBuffer::from(ends));
                Arc::new(BinaryArray::new(ends, Buffer::from_vec(bytes), nulls))
            }
        }
    }
}

fn placed<T: Copy + Default>(values: &[T], places: &[u32]) -> Vec<T> {
    let mut all = vec![T::default(); values.len()];
    for (place, value) in places.iter().zip(values) {
        all[*place as usize] = *value;
    }
    all
}

fn numbers<T: ArrowPrimitiveType>(
    mut values: Vec<T::Native>,
    rows: usize,
    nulls: Option<NullBuffer>,
) -> PrimitiveArray<T> {
    if values.len() < rows {
        values = vec![values[0]; rows];
    }
    PrimitiveArray::new(ScalarBuffer::from(values), nulls)
}
