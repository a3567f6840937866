//! The names of a batch that the vocabulary does not hold, stored once each.

use super::FRESH;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Finds a name among the batch's fresh ones; the names themselves are in `Decoded::fresh`.
#[derive(Default)]
pub(super) struct Fresh {
    ids: HashTable<u32>,
    hasher: RandomState,
}

impl Fresh {
    /// The id of the name, which is added if the batch has not had it yet.
    #[inline(never)]
    pub(super) fn id(&mut self, names: &mut Vec<Box<str>>, name: &str) -> u32 {
        let hasher = &self.hasher;
        let found = self.ids.entry(
            hasher.hash_one(name),
            |id| *names[index(*id)] == *name,
            |id| hasher.hash_one(&*names[index(*id)]),
        );
        let id = *found.or_insert_with(|| FRESH | names.len() as u32).get();
        if index(id) == names.len() {
            names.push(name.into());
        }
        id
    }

    /// Takes back the names that came after the first `keep`.
    pub(super) fn forget(&mut self, names: &mut Vec<Box<str>>, keep: usize) {
        for at in (keep..names.len()).rev() {
            let id = FRESH | at as u32;
            if let Ok(entry) = self.ids.find_entry(self.hasher.hash_one(&*names[at]), |known| *known == id) {
                entry.remove();
            }
        }
        names.truncate(keep);
    }

    pub(super) fn clear(&mut self) {
        self.ids.clear();
    }
}

fn index(id: u32) -> usize {
    (id & !FRESH) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_names_are_new_again() {
        let (mut fresh, mut names) = (Fresh::default(), Vec::new());
        let mut id = |name: &str, names: &mut Vec<Box<str>>| fresh.id(names, name);
        assert_eq!([id("a", &mut names), id("b", &mut names), id("a", &mut names)], [FRESH, FRESH | 1, FRESH]);
        for round in 0..100 {
            id(&format!("c{round}"), &mut names);
        }
        fresh.forget(&mut names, 1);
        assert_eq!(names, ["a".into()]);
        assert_eq!(
            [fresh.id(&mut names, "c7"), fresh.id(&mut names, "b"), fresh.id(&mut names, "a")],
            [FRESH | 1, FRESH | 2, FRESH]
        );
        fresh.clear();
    }
}
