//! The dictionary of a column of numbers: its distinct values in the order in which they came.

use super::bits::Number;

/// More distinct values than these are no dictionary but a copy of the column.
const ENTRIES_MAX: usize = 131_072;
const SLOTS_MIN: usize = 4_096;

/// How many values of a page are looked at before it may be given up.
const LOOK: usize = 8_192;

pub(super) struct Entries<T> {
    pub(super) values: Vec<T>,
    /// Where each value is, plus one; 0 is free.
    slots: Vec<u32>,
}

impl<T: Number> Entries<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), slots: vec![0; SLOTS_MIN] }
    }

    /// The index of each value of a page. None, and nothing is changed, if so large a share of the first are new that
    /// the rest will be too, or if they become too many.
    pub(super) fn indexes(&mut self, page: &[T], new_share_max: f64) -> Option<Vec<u32>> {
        let before = self.values.len();
        let mut found = Vec::with_capacity(page.len());
        let mut last: Option<(u64, u32)> = None;
        let (look, rest) = page.split_at(page.len().min(LOOK));
        for part in [look, rest] {
            for value in part {
                let bits = value.bits();
                let index = match last {
                    Some((same, index)) if same == bits => index,
                    _ => self.index(*value, bits),
                };
                last = Some((bits, index));
                found.push(index);
            }
            let new = self.values.len() - before;
            let hopeless = !rest.is_empty() && found.len() == LOOK && new as f64 > new_share_max * LOOK as f64;
            if hopeless || self.values.len() > ENTRIES_MAX {
                self.truncate(before);
                return None;
            }
        }
        Some(found)
    }

    /// Forgets the values from there on.
    pub(super) fn truncate(&mut self, count: usize) {
        if count < self.values.len() {
            self.values.truncate(count);
            self.arrange(self.slots.len());
        }
    }

    fn index(&mut self, value: T, bits: u64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = slot(bits, mask);
        loop {
            match self.slots[at] {
                0 => break,
                held if self.values[held as usize - 1].bits() == bits => return held - 1,
                _ => at = (at + 1) & mask,
            }
        }
        self.values.push(value);
        self.slots[at] = self.values.len() as u32;
        if self.values.len() * 2 > self.slots.len() {
            self.arrange(self.slots.len() * 4);
        }
        self.values.len() as u32 - 1
    }

    fn arrange(&mut self, slots: usize) {
        self.slots.clear();
        self.slots.resize(slots, 0);
        let mask = slots - 1;
        for (index, value) in self.values.iter().enumerate() {
            let mut at = slot(value.bits(), mask);
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = index as u32 + 1;
        }
    }
}

fn slot(bits: u64, mask: usize) -> usize {
    ((bits ^ (bits >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_index_and_a_page_that_is_given_up_leaves_none() {
        let mut entries = Entries::new();
        assert_eq!(entries.indexes(&[1.5, -0.0, 1.5, 0.0], 1.0), Some(vec![0, 1, 0, 2]));
        let many: Vec<f64> = (0..20_000).map(f64::from).collect();
        assert_eq!(entries.indexes(&many, 0.5), None);
        assert_eq!(entries.values.len(), 3);
        let all = entries.indexes(&many, 1.0).unwrap();
        assert_eq!((all[0], all[1], all[19_999]), (2, 3, 20_001));
        assert_eq!(entries.indexes(&[1.5, 7.0], 1.0), Some(vec![0, 9]));
        let beyond: Vec<f64> = (0..=ENTRIES_MAX as i32).map(|value| f64::from(value) + 0.25).collect();
        assert_eq!(entries.indexes(&beyond, 1.0), None);
    }
}
