//! Rows that come out beside the readings: windows that closed, steps of alarms, and what was rejected.

use super::walk::Walk;
use super::{Partition, intern};
use crate::alarm::{self, alarm_id, priority_code};
use crate::check::{Candidate, Known};
use crate::decode::{FRESH, Rejection};
use crate::limits::{REJECTED_ENVELOPE_BYTES_MAX, REJECTED_READING_BYTES_MAX};
use crate::names::Names;
use crate::output::{AlarmRow, Cause, RejectedRow, WindowRow};
use crate::series::{Identity, in_order};
use std::borrow::Cow;

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
                start: closed.start,
                end: closed.end,
                closed_by: closed.closed_by,
                stats: closed.stats,
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
        for row in std::mem::take(&mut self.due_alarms) {
            walk.alarm(AlarmRow { cause, ..row });
        }
    }

    #[inline(never)]
    pub(super) fn emit_steps(
        &mut self,
        known: Known,
        definition: u32,
        cause: Cause,
        reading: &Candidate,
        walk: &mut Walk,
    ) {
        let identity = Identity { device: reading.device, metric: reading.metric, definition };
        let steps = std::mem::take(&mut self.steps);
        for step in &steps {
            walk.alarm(self.alarm(known, identity, cause, step));
        }
    }

    /// A step of an alarm as a row, with the names of its series.
    pub(super) fn alarm(&self, known: Known, identity: Identity, cause: Cause, step: &alarm::Step) -> AlarmRow {
        let definition = &self.catalog.definitions[identity.definition as usize];
        let rule = &definition.metric.alarms[step.rule as usize];
        let device = self.vocabulary.devices.name(identity.device);
        let metric = self.vocabulary.metrics.name(identity.metric);
        let asset = match known {
            Known::Listed(listed) => Some(self.dictionary.compiled().series[listed as usize].asset.clone()),
            Known::Accepted => None,
        };
        AlarmRow {
            cause,
            alarm_id: alarm_id(&self.id, device, metric, &rule.rule, step.raised_by),
            step: step.step,
            transition: step.transition,
            device: device.to_owned(),
            metric: metric.to_owned(),
            asset,
            rule: rule.rule.clone(),
            priority: priority_code(rule.priority),
            onset_time: step.onset_time,
            event_time: step.event_time,
            value: step.value,
            threshold: step.threshold,
            peak: step.peak,
            score: step.score,
            message: definition.rules.message(metric, step),
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
            detail: Cow::Borrowed(rejection.detail),
            at: Some(rejection.at),
            device: rejection.device.map(|id| name(id, &self.vocabulary.devices)),
            metric: rejection.metric.map(|id| name(id, &self.vocabulary.metrics)),
            event_time: rejection.event_time,
            body: bytes[..bytes.len().min(limit)].to_vec(),
            body_bytes: bytes.len() as i64,
        }
    }
}
