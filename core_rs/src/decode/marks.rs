//! Tells whether a metric was met before within one object, without clearing anything between objects.

use super::FRESH;

/// For each id the number of the object in which it was last met.
#[derive(Default)]
pub(super) struct Marks {
    known: Vec<u32>,
    fresh: Vec<u32>,
    object: u32,
}

impl Marks {
    /// Starts another object.
    #[inline(always)]
    pub(super) fn begin(&mut self) {
        self.object = self.object.wrapping_add(1);
        if self.object == 0 {
            self.known.fill(0);
            self.fresh.fill(0);
            self.object = 1;
        }
    }

    /// Marks the id; true if this object has had it.
    #[inline(always)]
    pub(super) fn again(&mut self, id: u32) -> bool {
        let marks = if id < FRESH { &mut self.known } else { &mut self.fresh };
        let at = (id & !FRESH) as usize;
        if at >= marks.len() {
            // Twice as many, so that growing is rare; ids are indices and therefore dense.
            marks.resize(at * 2 + 16, 0);
        }
        std::mem::replace(&mut marks[at], self.object) == self.object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_per_object_also_when_the_counter_wraps() {
        let mut marks = Marks::default();
        for object in [0, 1, u32::MAX - 1, u32::MAX] {
            marks.object = object;
            marks.begin();
            for id in [0, 7, 300, FRESH, FRESH | 5] {
                assert_eq!([marks.again(id), marks.again(id)], [false, true], "{object} {id}");
            }
        }
    }
}
