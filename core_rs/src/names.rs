//! Exact string interner: names of at most 16 bytes live inside the slots of one open-addressed table.
//!
//! A look-up is one hash, one cache line and a full comparison, without following a pointer; longer names are in a map.
//! The hash is seeded anew in every process, so that names chosen by a sender cannot be made to collide; ids depend on
//! the order of insertion alone, never on the seed.

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use std::hash::BuildHasher;

/// Longest name that is kept inside a slot.
const INLINE_BYTES: usize = 16;
const SLOTS_MIN: usize = 64;

#[derive(Clone, Copy)]
struct Slot {
    words: [u64; 2],
    /// Length of the name; `EMPTY` where there is none.
    bytes: u32,
    id: u32,
}

const EMPTY: u32 = u32::MAX;
const VACANT: Slot = Slot { words: [0; 2], bytes: EMPTY, id: 0 };

/// Distinct names, numbered from 0 in the order of their insertion.
#[derive(Clone)]
pub struct Names {
    slots: Vec<Slot>,
    slots_used: usize,
    long: HashMap<Box<str>, u32, RandomState>,
    list: Vec<Box<str>>,
    seed: [u64; 2],
}

impl Default for Names {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(&self.list).finish()
    }
}

impl Names {
    pub fn new() -> Self {
        // The standard library's hasher takes its keys from the operating system.
        let random = std::hash::RandomState::new();
        Names {
            slots: vec![VACANT; SLOTS_MIN],
            slots_used: 0,
            long: HashMap::default(),
            list: Vec::new(),
            seed: [random.hash_one(1_u8), random.hash_one(2_u8)],
        }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The name that has this id; ids come from `insert`.
    pub fn name(&self, id: u32) -> &str {
        &self.list[id as usize]
    }

    /// The names in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(AsRef::as_ref)
    }

    pub fn get(&self, name: &str) -> Option<u32> {
        self.find(name.as_bytes(), 0, name.len())
    }

    /// The id of `buf[start..start + len]`, if that is a known name. The buffer is passed whole so that a short name is
    /// read with two loads, past its own end where the buffer allows it.
    #[inline(always)]
    pub fn find(&self, buf: &[u8], start: usize, len: usize) -> Option<u32> {
        let name = buf.get(start..)?.get(..len)?;
        if len <= INLINE_BYTES { self.find_short(load16(buf, start), len) } else { self.find_long(name) }
    }

    /// A name of at most 16 bytes; what follows it in the words is ignored.
    #[inline(always)]
    fn find_short(&self, loaded: u128, len: usize) -> Option<u32> {
        let words = cut(loaded, len);
        let mask = self.slots.len() - 1;
        let mut place = self.hash(words, len) & mask;
        loop {
            // Masking again costs nothing and lets the compiler drop the bounds check.
            let slot = &self.slots[place & mask];
            let differs = (slot.words[0] ^ words[0]) | (slot.words[1] ^ words[1]) | u64::from(slot.bytes ^ len as u32);
            if differs == 0 {
                return Some(slot.id);
            }
            if slot.bytes == EMPTY {
                return None;
            }
            place += 1;
        }
    }

    #[inline(never)]
    fn find_long(&self, name: &[u8]) -> Option<u32> {
        self.long.get(std::str::from_utf8(name).ok()?).copied()
    }

    /// The id of the name, which is added if it is new.
    pub fn insert(&mut self, name: &str) -> u32 {
        if let Some(id) = self.get(name) {
            return id;
        }
        let id = self.list.len() as u32;
        self.list.push(name.into());
        if name.len() > INLINE_BYTES {
            self.long.insert(name.into(), id);
            return id;
        }
        // At most half of the slots are taken, so that probing stays short and always meets an empty one.
        if (self.slots_used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        self.place(Slot { words: cut(load16(name.as_bytes(), 0), name.len()), bytes: name.len() as u32, id });
        self.slots_used += 1;
        id
    }

    fn grow(&mut self) {
        let larger = vec![VACANT; self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.bytes != EMPTY {
                self.place(slot);
            }
        }
    }

    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut place = self.hash(slot.words, slot.bytes as usize) & mask;
        while self.slots[place].bytes != EMPTY {
            place = (place + 1) & mask;
        }
        self.slots[place] = slot;
    }

    #[inline(always)]
    fn hash(&self, words: [u64; 2], len: usize) -> usize {
        let left = words[0] ^ self.seed[0];
        let right = words[1].rotate_left(17) ^ self.seed[1] ^ len as u64;
        let product = u128::from(left) * u128::from(right);
        (product as u64 ^ (product >> 64) as u64) as usize
    }
}

/// The first `len` bytes (at most 16) as two little-endian words.
#[inline(always)]
fn cut(loaded: u128, len: usize) -> [u64; 2] {
    let masks = &MASKS[len & 31];
    [loaded as u64 & masks[0], (loaded >> 64) as u64 & masks[1]]
}

/// For every length which bytes count; 32 of them spare the bounds check.
const MASKS: [[u64; 2]; 32] = {
    let mut masks = [[u64::MAX; 2]; 32];
    let mut len = 0;
    while len < INLINE_BYTES {
        masks[len] = if len < 8 { [(1 << (8 * len)) - 1, 0] } else { [u64::MAX, (1 << (8 * (len - 8))) - 1] };
        len += 1;
    }
    masks
};

/// Eight bytes from `start` as a little-endian word; zeros stand for what lies past the end.
#[inline(always)]
pub(crate) fn load8(bytes: &[u8], start: usize) -> u64 {
    match bytes.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => load_tail(bytes, start) as u64,
    }
}

/// As `load8`, with sixteen bytes.
#[inline(always)]
pub(crate) fn load16(bytes: &[u8], start: usize) -> u128 {
    match bytes.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(chunk) => u128::from_le_bytes(*chunk),
        None => load_tail(bytes, start),
    }
}

#[cold]
#[inline(never)]
fn load_tail(bytes: &[u8], start: usize) -> u128 {
    let mut word = [0; 16];
    for (to, from) in word.iter_mut().zip(bytes.iter().skip(start)) {
        *to = *from;
    }
    u128::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_around_the_inline_limit_are_told_apart() {
        let mut names = Names::new();
        let all: Vec<String> = (0..40).map(|n| "a".repeat(n)).collect();
        for (id, name) in all.iter().enumerate() {
            assert_eq!(names.get(name), None);
            assert_eq!(names.insert(name), id as u32);
        }
        for (id, name) in all.iter().enumerate() {
            assert_eq!(names.insert(name), id as u32);
            assert_eq!(names.name(id as u32), name);
        }
    }

    #[test]
    fn a_name_and_the_same_name_with_a_zero_byte_differ() {
        let mut names = Names::new();
        assert_eq!((names.insert("a"), names.insert("a\0"), names.insert("")), (0, 1, 2));
        assert_eq!((names.get("a\0"), names.get("\0")), (Some(1), None));
    }

    #[test]
    fn a_range_outside_the_buffer_is_no_name() {
        let mut names = Names::new();
        names.insert("ab\0\0");
        assert_eq!(names.find(b"ab", 0, 4), None);
        assert_eq!(names.find(b"ab", 3, 0), None);
        assert_eq!(names.find(b"ab", usize::MAX, usize::MAX), None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(words in prop::collection::vec("[a-c]{0,3}|.{0,20}", 0..300)) {
            let mut names = Names::new();
            let mut list: Vec<&str> = Vec::new();
            for word in &words {
                let expected = list.iter().position(|known| known == word);
                prop_assert_eq!(names.get(word), expected.map(|id| id as u32));
                if expected.is_none() {
                    list.push(word);
                }
                names.insert(word);
                let around = format!("x{word}yyyyyyyyyyyyyyyyyyy");
                prop_assert_eq!(names.find(around.as_bytes(), 1, word.len()), names.get(word));
            }
            prop_assert!(names.iter().eq(list));
        }
    }
}
