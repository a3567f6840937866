//! A change of dictionary in a running partition: what is still defined goes on, the rest is closed.

use super::{Due, Partition};
use crate::dictionary::Dictionary;
use crate::dictionary::compiled::Metric;
use crate::output::WindowRow;
use crate::series::Series;
use crate::window::{ClosedBy, Windows};
use std::sync::Arc;

impl Partition {
    /// Goes on under another dictionary. Series and windows that it still defines are kept; what it no longer defines
    /// is closed and comes out with the next envelope.
    pub fn change_dictionary(&mut self, dictionary: Arc<Dictionary>, ordinal: i64) {
        let mut next = Self::new(std::mem::take(&mut self.id), dictionary);
        next.last_sequence = self.last_sequence;
        next.journal_ordinal = ordinal;
        next.newest_enqueued = self.newest_enqueued;
        next.due = std::mem::take(&mut self.due);
        let mut closed = Vec::new();
        for index in 0..self.store.len() as u32 {
            let old = self.store.series(index);
            let device = self.vocabulary.devices.name(old.identity.device);
            let metric = self.vocabulary.metrics.name(old.identity.metric);
            let metric_was = &self.catalog.definitions[old.identity.definition as usize].metric;
            let kept = next.adopt(device, metric, metric_was, &old);
            for windows in old.windows.iter().filter(|windows| !kept.contains(&windows.definition)) {
                let window_name = &metric_was.windows[windows.definition as usize].name;
                for pane in windows.panes() {
                    let row = WindowRow {
                        device: old.identity.device,
                        metric: old.identity.metric,
                        window_name: 0,
                        start: pane.start,
                        end: pane.start + windows.length,
                        closed_by: ClosedBy::Flush,
                        stats: pane.stats,
                    };
                    let names = (device.to_owned(), metric.to_owned(), window_name.clone());
                    let due = Due { device: names.0, metric: names.1, window_name: names.2, row };
                    closed.push(((row.end, windows.definition, index), due));
                }
            }
        }
        closed.sort_by_key(|(key, _)| *key);
        next.due.extend(closed.into_iter().map(|(_, due)| due));
        *self = next;
    }

    /// Takes a series over from the previous dictionary; returns which of its window definitions live on.
    fn adopt(&mut self, device: &str, metric: &str, metric_was: &Metric, old: &Series) -> Vec<u32> {
        let Some((known, identity)) = self.identify(device, metric) else { return Vec::new() };
        let metric = &self.catalog.definitions[identity.definition as usize].metric;
        let mut series = Series::new(identity, metric);
        series.watermark = old.watermark;
        series.newest = old.newest;
        series.seen = old.seen;
        series.recent.clone_from(&old.recent);
        let mut kept = Vec::new();
        // A value in another unit belongs in another window.
        for windows in series.windows.iter_mut().filter(|_| metric.unit == metric_was.unit) {
            let definition = &metric.windows[windows.definition as usize];
            let same = |was: &&Windows| metric_was.windows[was.definition as usize] == *definition;
            if let Some(was) = old.windows.iter().find(same) {
                kept.push(was.definition);
                *windows = was.under(windows.definition);
            }
        }
        self.add(known, series);
        kept
    }
}
