//! The operator against small logs whose outcome can be read off; the oracle in `tests/` takes it from there.

use alumicatalyst_core::dictionary::Dictionary;
use alumicatalyst_core::error::Error;
use alumicatalyst_core::output::{DUPLICATE, LATE, Output, WINDOWED};
use alumicatalyst_core::partition::{Batch, Partition};
use alumicatalyst_core::snapshot;
use proptest::prelude::*;
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600 * SECOND;

fn dictionary(windows: &str, unit: &str) -> Arc<Dictionary> {
    let toml = format!(
        r#"
        name = "test"
        version = "1"
        site = "test/plant"
        time_zone = "UTC"
        [payload]
        device = "d"
        time = {{field = "t", format = "epoch_us"}}
        metric = "m"
        value = "v"
        [time]
        out_of_orderness = "5s"
        idle = "1min"
        duplicates = 4
        [default]
        windows = {windows}
        [machine.pot]
        device = "pot-{{1..3}}"
        asset = "line/{{device}}"
        voltage = {{unit = "{unit}", range = [0, 100]}}
        "#
    );
    Arc::new(Dictionary::from_toml(&toml).expect("a sound dictionary"))
}

/// One envelope: seconds after the start, and readings of (device, seconds after the start, value).
type Envelope = (i64, Vec<(u8, i64, f64)>);

fn feed(partition: &mut Partition, first: i64, envelopes: &[Envelope]) -> Output {
    let (mut bodies, mut offsets) = (Vec::new(), vec![0]);
    for (_, readings) in envelopes {
        let objects: Vec<String> = readings
            .iter()
            .map(|(device, at, value)| {
                let time = START + at * SECOND;
                format!(r#"{{"d":"pot-{device}","t":{time},"m":"voltage","v":{value}}}"#)
            })
            .collect();
        bodies.extend_from_slice(format!("[{}]", objects.join(",")).as_bytes());
        offsets.push(bodies.len() as i64);
    }
    let sequence_numbers: Vec<i64> = (first..).take(envelopes.len()).collect();
    let enqueued_times: Vec<i64> = envelopes.iter().map(|(at, _)| START + at * SECOND).collect();
    let batch = Batch {
        bodies: &bodies,
        offsets: &offsets,
        sequence_numbers: &sequence_numbers,
        enqueued_times: &enqueued_times,
        properties: &[],
    };
    partition.on_batch(&batch).expect("a sound batch")
}

fn started() -> Partition {
    Partition::new("test/1/0", dictionary(r#"["10s"]"#, "V"))
}

/// Start of each window in seconds after the start, its count, and why it closed.
fn windows(output: &Output) -> Vec<(i64, i64, i32)> {
    let rows = &output.windows;
    (0..rows.len()).map(|at| ((rows.window_start[at] - START) / SECOND, rows.count[at], rows.closed_by[at])).collect()
}

#[test]
fn i1_outcomes_are_decided_in_their_order() {
    let readings = vec![(1, 1, 1.0), (1, 2, 1.0), (1, 2, 9.0), (1, 21, 1.0), (1, 3, 1.0), (1, 3, 1.0), (1, 22, 101.0)];
    let output = feed(&mut started(), 0, &[(22, readings)]);
    assert_eq!(output.readings.outcome, [WINDOWED, WINDOWED, DUPLICATE, WINDOWED, LATE, DUPLICATE]);
    // The watermark stood at 21 - 5 s.
    assert_eq!(output.readings.lateness_us, [(4, 13 * SECOND)]);
    assert_eq!(output.rejected[0].reason.as_str(), "out_of_range");
    let counts = &output.counts;
    assert_eq!(
        (counts.windowed[0], counts.late[0], counts.duplicate[0], counts.rejected[0], counts.total[0]),
        (3, 1, 2, 1, 7)
    );
    assert_eq!(windows(&output), [(0, 2, 0)]);
    assert_eq!(output.windows.cause.item, [3], "the reading that moved the watermark is the cause");
}

#[test]
fn i3_a_clock_that_runs_ahead_moves_the_watermark_no_further_than_partition_time() {
    let mut partition = started();
    let output = feed(&mut partition, 0, &[(0, vec![(1, 0, 1.0), (1, 50, 1.0)])]);
    assert_eq!(windows(&output), [], "partition time stands still, so does the watermark");
    let output = feed(&mut partition, 1, &[(16, vec![(1, 15, 1.0)])]);
    assert_eq!(windows(&output), [(0, 1, 0)]);
}

#[test]
fn silence_closes_windows_by_partition_time_before_the_readings_of_an_envelope() {
    let mut partition = started();
    feed(&mut partition, 0, &[(0, vec![(1, 0, 1.0), (2, 0, 1.0)])]);
    let output = feed(&mut partition, 1, &[(69, vec![(2, 69, 1.0)])]);
    assert_eq!(windows(&output), [(0, 1, 0)], "idle for 69 s, but the window ended 59 s ago");
    let output = feed(&mut partition, 2, &[(70, vec![(1, 5, 1.0), (1, 12, 1.0)])]);
    assert_eq!(windows(&output), [(0, 1, 1)]);
    assert_eq!(output.windows.cause.item, [-1]);
    assert_eq!(output.readings.outcome, [LATE, WINDOWED], "a backlog is windowed but where a window was emitted");
}

#[test]
fn a_flush_closes_everything_in_order_and_needs_a_new_number() {
    let mut partition = started();
    feed(&mut partition, 0, &[(20, vec![(2, 11, 1.0), (1, 12, 1.0), (1, 9, 1.0)])]);
    assert!(matches!(partition.flush(0, 1), Err(Error::Envelopes(_))));
    let output = partition.flush(7, 1).unwrap();
    assert_eq!(windows(&output), [(0, 1, 2), (10, 1, 2), (10, 1, 2)]);
    let devices: Vec<&str> = output.windows.device.iter().map(|id| partition.vocabulary().devices.name(*id)).collect();
    assert_eq!(devices, ["pot-1", "pot-2", "pot-1"], "by end, then by first appearance");
    assert_eq!((output.first, output.last, partition.last_sequence(), partition.journal_ordinal()), (Some(7), 7, 7, 1));
}

#[test]
fn a_change_of_dictionary_keeps_what_is_still_defined_and_emits_the_rest() {
    let mut partition = Partition::new("test/1/0", dictionary(r#"["10s", "1min"]"#, "V"));
    feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0), (1, 2, 3.0)])]);
    partition.change_dictionary(dictionary(r#"["1min", "20s"]"#, "V"), 1);
    let state = partition.snapshot();
    let mut partition = Partition::restore("test/1/0", dictionary(r#"["1min", "20s"]"#, "V"), &state).unwrap();
    let output = feed(&mut partition, 1, &[(4, vec![(1, 2, 3.0), (1, 4, 5.0)])]);
    assert_eq!(windows(&output), [(0, 2, 2)], "what the new dictionary lacks comes out with the next envelope");
    assert_eq!(output.readings.outcome, [DUPLICATE, WINDOWED], "remembered event times are kept");
    let output = partition.flush(9, 2).unwrap();
    assert_eq!(windows(&output), [(0, 1, 2), (0, 3, 2)], "the minute went on, the new window began");

    let mut partition = started();
    feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0)])]);
    partition.change_dictionary(dictionary(r#"["10s"]"#, "mV"), 1);
    let output = feed(&mut partition, 1, &[(4, vec![(1, 4, 5.0)])]);
    assert_eq!(windows(&output), [(0, 1, 2)], "a value in another unit belongs in another window");
}

#[test]
fn a_state_of_another_partition_dictionary_or_format_is_refused() {
    let mut partition = started();
    feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0)])]);
    let state = partition.snapshot();
    let refused = |id: &str, dictionary, state: &[u8]| {
        Partition::restore(id, dictionary, state).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let same = || dictionary(r#"["10s"]"#, "V");
    assert!(refused("test/1/1", same(), &state).contains("belongs to partition test/1/0"));
    assert!(refused("test/1/0", dictionary(r#"["20s"]"#, "V"), &state).contains("dictionary diff"));
    let mut newer = state.clone();
    newer[8] = 9;
    assert!(refused("test/1/0", same(), &newer).contains("version 9"));
    assert!(refused("test/1/0", same(), &state[..state.len() - 1]).contains("damaged"));
    assert_eq!(snapshot::info(&state).unwrap().last_sequence, 0);
}

#[test]
fn a_window_is_emitted_once_even_where_its_definition_goes_and_comes_back() {
    let ten = || dictionary(r#"["10s"]"#, "V");
    let mut partition = started();
    let mut emitted = windows(&feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0)])]));
    partition.change_dictionary(dictionary(r#"["20s"]"#, "V"), 1);
    emitted.extend(windows(&feed(&mut partition, 1, &[(4, vec![(1, 2, 1.0)])])));
    let state = partition.snapshot();
    let mut partition = Partition::restore("test/1/0", dictionary(r#"["20s"]"#, "V"), &state).unwrap();
    partition.change_dictionary(ten(), 2);
    let output = feed(&mut partition, 2, &[(5, vec![(1, 4, 1.0), (1, 14, 1.0)])]);
    assert_eq!(output.readings.outcome, [LATE, WINDOWED], "its window has been emitted");
    emitted.extend(windows(&output));
    emitted.extend(windows(&partition.flush(9, 3).unwrap()));
    assert_eq!(emitted, [(0, 1, 2), (0, 1, 2), (10, 1, 2)], "ten seconds, twenty seconds, the next ten");

    let mut partition = started();
    feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0)])]);
    partition.change_dictionary(dictionary(r#"["10s"]"#, "mV"), 1);
    let output = feed(&mut partition, 1, &[(4, vec![(1, 4, 5.0)])]);
    assert_eq!((windows(&output), output.readings.outcome), (vec![(0, 1, 2)], vec![LATE]));
}

fn envelopes() -> impl Strategy<Value = Vec<Envelope>> {
    let reading = (1_u8..4, -20_i64..400, 0.0..110.0);
    let envelope = (0_i64..300, prop::collection::vec(reading, 0..6));
    prop::collection::vec(envelope, 1..40)
}

proptest! {
    #[test]
    fn i4_i5_cuts_and_restarts_change_nothing(log in envelopes(), cuts in prop::collection::vec(0_usize..40, 0..6)) {
        let mut whole = started();
        let all = feed(&mut whole, 0, &log);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(log.len())).chain([0, log.len()]).collect();
        cuts.sort_unstable();
        let (mut partition, mut parts) = (started(), Vec::new());
        for pair in cuts.windows(2) {
            parts.push(feed(&mut partition, pair[0] as i64, &log[pair[0]..pair[1]]));
            let state = partition.snapshot();
            partition = Partition::restore("test/1/0", dictionary(r#"["10s"]"#, "V"), &state).unwrap();
            prop_assert_eq!(partition.snapshot(), state);
        }
        prop_assert_eq!(partition.snapshot(), whole.snapshot());
        prop_assert_eq!(parts.iter().flat_map(|part| part.counts.total.clone()).collect::<Vec<_>>(), all.counts.total);
        prop_assert_eq!(parts.iter().flat_map(|part| part.counts.windows.clone()).collect::<Vec<_>>(), all.counts.windows);
        prop_assert_eq!(parts.iter().flat_map(|part| part.readings.outcome.clone()).collect::<Vec<_>>(), all.readings.outcome);
        let bits = |values: &[Option<f64>]| values.iter().map(|value| value.map(f64::to_bits)).collect::<Vec<_>>();
        prop_assert_eq!(parts.iter().flat_map(|part| bits(&part.windows.mean)).collect::<Vec<_>>(), bits(&all.windows.mean));
        prop_assert_eq!(parts.iter().flat_map(|part| part.windows.count.clone()).collect::<Vec<_>>(), all.windows.count);
    }

    #[test]
    fn i9_damaged_states_are_refused_and_never_panic(at in 0_usize..600, byte: u8, cut in 0_usize..600) {
        let mut partition = started();
        feed(&mut partition, 0, &[(3, vec![(1, 1, 1.0), (2, 1, 1.0)])]);
        let mut state = partition.snapshot();
        let at = at.min(state.len() - 1);
        let changed = state[at] != byte;
        state[at] = byte;
        let refused = Partition::restore("test/1/0", dictionary(r#"["10s"]"#, "V"), &state).is_err();
        prop_assert_eq!(refused, changed);
        let whole = state.len();
        state.truncate(cut);
        prop_assert!(snapshot::info(&state).is_err() || (cut >= whole && !changed));
    }
}
