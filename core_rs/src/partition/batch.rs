//! A batch of envelopes, as the Arrow layer hands it in.

use crate::error::Error;

/// Envelopes of one partition, in the order of the source.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub bodies: &'a [u8],
    /// One more than there are envelopes, into `bodies`.
    pub offsets: &'a [i64],
    pub sequence_numbers: &'a [i64],
    /// Microseconds since 1970.
    pub enqueued_times: &'a [i64],
    /// Row-major: for each envelope the properties that [`Partition::properties`] names.
    pub properties: &'a [Option<&'a str>],
}

impl Batch<'_> {
    /// The Arrow layer built these slices; a mistake there must not become a panic here.
    pub(super) fn validate(&self, wanted: usize) -> Result<(), Error> {
        let envelopes = self.sequence_numbers.len();
        let sound = self.enqueued_times.len() == envelopes
            && self.offsets.len() == envelopes + 1
            && self.properties.len() == envelopes * wanted
            && self.offsets.first().is_some_and(|first| *first >= 0)
            && self.offsets.is_sorted()
            && self.offsets.last().is_some_and(|last| *last <= self.bodies.len() as i64);
        if !sound {
            return Err(Error::Envelopes(
                "couldn't read a batch of envelopes: its columns don't fit together".to_owned(),
            ));
        }
        match self.sequence_numbers.iter().find(|number| **number < 0) {
            Some(number) => Err(Error::Envelopes(format!(
                "couldn't read a batch of envelopes: sequence number {number}; they start at 0"
            ))),
            None => Ok(()),
        }
    }
}
