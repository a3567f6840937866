//! Rows that come out beside the readings: windows that closed, and what was rejected.

use super::walk::Walk;
use super::{Partition, intern};
use crate::decode::{FRESH, Rejection};
use crate::limits::{REJECTED_ENVELOPE_BYTES_MAX, REJECTED_READING_BYTES_MAX};
use crate::names::Names;
use crate::output::{Cause, RejectedRow, WindowRow};
use crate::series::in_order;

impl Partition {
    pub(super) fn emit_closed(&mut self, cause: Cause, walk: &mut Walk) {
        if self.closed.is_empty() {
            return;
        }
        in_order(&mut self.closed);
        for closed in self.closed.drain(..) {
            let identity = self.store.identity(closed.series);
            let row = WindowRow {
                device: identity.device,
                metric: identity.metric,
                window_name: self.window_ids[identity.definition as usize][closed.window as usize],
                start: closed.pane.start,
                end: closed.end,
                closed_by: closed.closed_by,
                stats: closed.pane.stats,
            };
            walk.window(cause, &row);
        }
    }

    pub(super) fn emit_due(&mut self, cause: Cause, walk: &mut Walk) {
        for due in std::mem::take(&mut self.due) {
            let row = WindowRow {
                device: self.vocabulary.devices.insert(&due.device),
                metric: self.vocabulary.metrics.insert(&due.metric),
                window_name: intern(&mut self.window_names, &due.window_name),
                ..due.row
            };
            walk.window(cause, &row);
        }
    }

    pub(super) fn rejected(&self, rejection: &Rejection, cause: Cause, body: &[u8], fresh: &[Box<str>]) -> RejectedRow {
        let name = |id: u32, names: &Names| match id.checked_sub(FRESH) {
            Some(index) => fresh[index as usize].to_string(),
            None => names.name(id).to_owned(),
        };
        let (bytes, limit) = if rejection.item < 0 {
            (body, REJECTED_ENVELOPE_BYTES_MAX)
        } else {
            (&body[rejection.start as usize..rejection.end as usize], REJECTED_READING_BYTES_MAX)
        };
        RejectedRow {
            cause: Cause { item: rejection.item, ..cause },
            reason: rejection.reason,
            detail: rejection.detail,
            at: rejection.at,
            device: rejection.device.map(|id| name(id, &self.vocabulary.devices)),
            metric: rejection.metric.map(|id| name(id, &self.vocabulary.metrics)),
            event_time: rejection.event_time,
            body: bytes[..bytes.len().min(limit)].to_vec(),
            body_bytes: bytes.len() as i64,
        }
    }
}
