//! One column of many batches, read into one place: each row goes to where the order of the file has it.

use crate::joined::{Joined, NO_NAME, Owned};
use alumicatalyst_core::error::Error;
use alumicatalyst_core::schema::{Column, Type};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, ByteArrayType, Float32Type, Float64Type, GenericBinaryType, GenericStringType, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, GenericByteArray, PrimitiveArray, RecordBatch};
use std::collections::HashMap;

/// Joins a column of several batches: row `i` of all of them comes to `places[i]`, or stays where it is.
pub(crate) fn join(column: &Column, batches: &[RecordBatch], places: Option<&[u32]>) -> Result<Joined, Error> {
    let missing = || refused(column, "missing");
    let arrays = batches.iter().map(|batch| batch.column_by_name(column.name).ok_or_else(missing));
    let arrays = arrays.collect::<Result<Vec<_>, _>>()?;
    let rows = arrays.iter().copied().map(Array::len).sum();
    let nulls: usize = arrays.iter().copied().map(Array::null_count).sum();
    if nulls > 0 && !column.nullable {
        return Err(refused(column, "null somewhere"));
    }
    let from = Gathered { column, arrays: &arrays, rows, nulls, places };
    let values = match column.kind {
        Type::Int16 => Owned::Int16(from.numbers::<Int16Type, _>(|value| value)?),
        Type::Int32 => Owned::Int32(from.numbers::<Int32Type, _>(|value| value)?),
        Type::Int64 => Owned::Int64(from.numbers::<Int64Type, _>(|value| value)?),
        Type::Time => Owned::Time(from.numbers::<TimestampMicrosecondType, _>(|value| value)?),
        Type::Float32 => Owned::Float32(from.numbers::<Float32Type, _>(f32::to_bits)?),
        Type::Float64 => Owned::Float64(from.numbers::<Float64Type, _>(f64::to_bits)?),
        Type::Bool => Owned::Bool(from.bools()?),
        Type::Text => from.coded()?,
        Type::PlainText => from.bytes::<GenericStringType<i32>>().map(|(ends, bytes)| Owned::Text { ends, bytes })?,
        Type::Binary => from.bytes::<GenericBinaryType<i32>>().map(|(ends, bytes)| Owned::Binary { ends, bytes })?,
        Type::Date | Type::LargeBinary | Type::Properties => return Err(refused(column, "of a type without a form")),
    };
    if values.has_nan() {
        return Err(refused(column, "NaN somewhere"));
    }
    let valid = if nulls == 0 || nulls == rows { None } else { Some(from.validity()) };
    Ok(Joined { rows, values, valid, null: nulls > 0 && nulls == rows })
}

fn refused(column: &Column, what: &str) -> Error {
    Error::Rows(format!(
        "couldn't digest rows: column {} is {what}; give rows of the table as the lake stores it",
        column.name
    ))
}

struct Gathered<'a> {
    column: &'a Column,
    arrays: &'a [&'a ArrayRef],
    rows: usize,
    nulls: usize,
    places: Option<&'a [u32]>,
}

impl<'a> Gathered<'a> {
    fn mistyped(&self, array: &ArrayRef) -> Error {
        refused(self.column, &array.data_type().to_string())
    }

    /// Where a row of all batches comes to.
    fn place(&self, row: usize) -> usize {
        self.places.map_or(row, |places| places[row] as usize)
    }

    /// Each array with the number of its first row.
    fn numbered(&self) -> impl Iterator<Item = (usize, &'a ArrayRef)> {
        self.arrays.iter().scan(0, |next, array| {
            let first = *next;
            *next += array.len();
            Some((first, *array))
        })
    }

    fn validity(&self) -> Vec<bool> {
        let mut valid = vec![self.nulls == 0; self.rows];
        for (first, array) in self.numbered() {
            match array.nulls() {
                Some(nulls) => nulls.valid_indices().for_each(|row| valid[self.place(first + row)] = true),
                None => (0..array.len()).for_each(|row| valid[self.place(first + row)] = true),
            }
        }
        valid
    }

    fn numbers<T: ArrowPrimitiveType, K: PartialEq>(&self, key: fn(T::Native) -> K) -> Result<Vec<T::Native>, Error> {
        let typed = |array: &&'a ArrayRef| array.as_primitive_opt::<T>().ok_or_else(|| self.mistyped(array));
        let arrays = self.arrays.iter().map(typed).collect::<Result<Vec<&PrimitiveArray<T>>, _>>()?;
        if self.nulls == self.rows {
            return Ok(vec![T::Native::default(); self.rows.min(1)]);
        }
        if self.nulls == 0 {
            let first = arrays.iter().find_map(|array| array.values().first()).copied();
            let only = first.filter(|first| {
                let first = key(*first);
                arrays.iter().all(|array| array.values().iter().all(|value| key(*value) == first))
            });
            if let Some(only) = only {
                return Ok(vec![only]);
            }
        }
        let mut all = vec![T::Native::default(); self.rows];
        let mut first = 0;
        for array in arrays {
            let values = array.values();
            match (array.nulls(), self.places) {
                (Some(nulls), _) if nulls.null_count() > 0 => {
                    nulls.valid_indices().for_each(|row| all[self.place(first + row)] = values[row]);
                }
                (_, Some(places)) => {
                    for (place, value) in places[first..first + values.len()].iter().zip(values) {
                        all[*place as usize] = *value;
                    }
                }
                (_, None) => all[first..first + values.len()].copy_from_slice(values),
            }
            first += values.len();
        }
        Ok(all)
    }

    fn bools(&self) -> Result<Vec<bool>, Error> {
        let mut all = vec![false; self.rows];
        for (first, array) in self.numbered() {
            let found = array.as_boolean_opt().ok_or_else(|| self.mistyped(array))?;
            for row in (0..found.len()).filter(|row| found.is_valid(*row) && found.value(*row)) {
                all[self.place(first + row)] = true;
            }
        }
        Ok(all)
    }

    fn bytes<T: ByteArrayType<Offset = i32>>(&self) -> Result<(Vec<i32>, Vec<u8>), Error> {
        let mut all: Vec<&[u8]> = vec![&[]; self.rows];
        for (first, array) in self.numbered() {
            let found = array.as_any().downcast_ref::<GenericByteArray<T>>().ok_or_else(|| self.mistyped(array))?;
            for row in (0..found.len()).filter(|row| found.is_valid(*row)) {
                all[self.place(first + row)] = found.value(row).as_ref();
            }
        }
        let mut ends = vec![0];
        let mut length = 0;
        for value in &all {
            length += value.len();
            ends.push(i32::try_from(length).map_err(|_| refused(self.column, "longer than 2 GiB in all"))?);
        }
        Ok((ends, all.concat()))
    }

    /// The name that all rows have, if it is one and no row is null.
    fn only_name(&self) -> Option<&'a str> {
        let mut only = None;
        for (_, array) in self.numbered() {
            let coded = array.as_dictionary_opt::<Int32Type>().filter(|coded| coded.null_count() == 0)?;
            let Some(key) = coded.keys().values().first() else { continue };
            let name = coded.values().as_string_opt::<i32>()?.value(*key as usize);
            let alike = coded.keys().values().iter().all(|each| each == key);
            if !alike || only.is_some_and(|only| only != name) {
                return None;
            }
            only = Some(name);
        }
        only
    }

    /// Gives every name that occurs a code, in the order of the names.
    fn coded(&self) -> Result<Owned, Error> {
        let mut names = Names::default();
        if let Some(only) = self.only_name() {
            names.code(only);
            return Ok(names.in_order(vec![0], 0));
        }
        let mut codes = vec![NO_NAME; self.rows];
        // Batches of one partition share their names, so what one has told holds for the next.
        let mut told: (*const u8, usize, Vec<i32>) = (std::ptr::null(), 0, Vec::new());
        for (first, array) in self.numbered() {
            if let Some(plain) = array.as_string_opt::<i32>() {
                for row in (0..plain.len()).filter(|row| plain.is_valid(*row)) {
                    codes[self.place(first + row)] = names.code(plain.value(row));
                }
                continue;
            }
            let coded = array.as_dictionary_opt::<Int32Type>().ok_or_else(|| self.mistyped(array))?;
            let texts = coded.values().as_string_opt::<i32>().ok_or_else(|| self.mistyped(array))?;
            if (told.0, told.1) != (texts.value_data().as_ptr(), texts.len()) || told.2.is_empty() {
                told = (texts.value_data().as_ptr(), texts.len(), vec![NO_NAME; texts.len()]);
            }
            let keys = coded.keys().values();
            let told = &mut told.2;
            let mut code = |key: i32| {
                let code = &mut told[key as usize];
                if *code == NO_NAME {
                    *code = names.code(texts.value(key as usize));
                }
                *code
            };
            match (coded.nulls(), self.places) {
                (Some(nulls), _) if nulls.null_count() > 0 => {
                    nulls.valid_indices().for_each(|row| codes[self.place(first + row)] = code(keys[row]));
                }
                (_, Some(places)) => {
                    for (place, key) in places[first..first + keys.len()].iter().zip(keys) {
                        codes[*place as usize] = code(*key);
                    }
                }
                (_, None) => {
                    for (to, key) in codes[first..first + keys.len()].iter_mut().zip(keys) {
                        *to = code(*key);
                    }
                }
            }
        }
        Ok(names.in_order(codes, self.nulls))
    }
}

#[derive(Default)]
struct Names<'a> {
    codes: HashMap<&'a str, i32>,
    names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn code(&mut self, name: &'a str) -> i32 {
        *self.codes.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() as i32 - 1
        })
    }

    fn in_order(self, mut codes: Vec<i32>, nulls: usize) -> Owned {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_unstable_by_key(|code| self.names[*code]);
        // A null counts as the empty text: where there is one, it has its code.
        let no_name = if order.first().is_some_and(|code| self.names[*code].is_empty()) { 0 } else { NO_NAME };
        let mut ranks = vec![0; order.len()];
        for (rank, code) in order.iter().enumerate() {
            ranks[*code] = rank as i32;
        }
        if order.len() > 1 || no_name != NO_NAME {
            for code in &mut codes {
                *code = if *code == NO_NAME { no_name } else { ranks[*code as usize] };
            }
        } else if nulls == 0 || order.is_empty() {
            // But one name, or nulls alone.
            codes.truncate(1);
        }
        Owned::Coded { codes, names: order.into_iter().map(|code| self.names[code].to_owned()).collect() }
    }
}
