//! Alarm rules against small logs whose transitions can be read off; the oracle in `tests/` takes it from there.

use alumicatalyst_core::dictionary::Dictionary;
use alumicatalyst_core::output::{AlarmRow, Output};
use alumicatalyst_core::partition::{Batch, Partition};
use std::sync::Arc;

const SECOND: i64 = 1_000_000;
/// 2026-01-01T00:00:00Z
const START: i64 = 1_767_225_600 * SECOND;
const HIGH: &str = r#"alarm.H = {above=8, deadband=1, on="3s", off="5s", priority="high", text="anode effect"}"#;

fn dictionary(metric: &str, rules: &str) -> Arc<Dictionary> {
    let toml = format!(
        r#"
        name = "test"
        version = "1"
        site = "test/plant"
        [payload]
        device = "d"
        time = {{field = "t", format = "epoch_us"}}
        metric = "m"
        value = "v"
        [detector.ewma]
        half_life = "10s"
        learn = 2
        store_above = 0
        [machine.pot]
        device = "pot-1"
        asset = "line/pot-1"
        [machine.pot.voltage]
        {metric}
        {rules}
        "#
    );
    Arc::new(Dictionary::from_toml(&toml).expect("a sound dictionary"))
}

fn volts(rules: &str) -> Partition {
    Partition::new("test/1/0", dictionary("unit = \"V\"", rules))
}

/// Feeds readings of (seconds after the start, value), an envelope each, numbered by their second.
fn feed(partition: &mut Partition, readings: &[(i64, &str)]) -> Output {
    let (mut bodies, mut offsets) = (Vec::new(), vec![0]);
    for (at, value) in readings {
        let time = START + at * SECOND;
        bodies.extend_from_slice(format!(r#"{{"d":"pot-1","t":{time},"m":"voltage","v":{value}}}"#).as_bytes());
        offsets.push(bodies.len() as i64);
    }
    let times: Vec<i64> = readings.iter().map(|(at, _)| START + at * SECOND).collect();
    let numbers: Vec<i64> = (partition.last_sequence() + 1..).take(readings.len()).collect();
    let batch = Batch {
        bodies: &bodies,
        offsets: &offsets,
        sequence_numbers: &numbers,
        enqueued_times: &times,
        properties: &[],
    };
    partition.on_batch(&batch).expect("a sound batch")
}

/// Second, step and message of each transition.
fn told(alarms: &[AlarmRow]) -> Vec<(i64, i32, &str)> {
    alarms.iter().map(|row| ((row.event_time - START) / SECOND, row.step, row.message.as_str())).collect()
}

#[test]
fn an_alarm_waits_for_its_delays_and_holds_within_its_deadband() {
    let mut partition = volts(HIGH);
    let out = feed(
        &mut partition,
        &[
            (0, "9"),
            (2, "8"),
            (3, "9"),
            (5, "30.51234567"),
            (6, "10"),
            (8, "7.5"),
            (9, "7"),
            (12, "7.5"),
            (13, "6"),
            (17, "5"),
            (18, "4.25"),
        ],
    );
    let expected = [
        (6, 0, "anode effect: voltage 10 V, above 8 V"),
        (18, 1, "anode effect: voltage back at 4.25 V, peak 30.5123 V"),
    ];
    assert_eq!(
        told(&out.alarms),
        expected,
        "pending ends at 8 V, which is not above; the way back begins anew at 13 s"
    );
    let raised = &out.alarms[0];
    assert_eq!(((raised.onset_time - START) / SECOND, raised.peak, raised.threshold), (3, 30.512_345_67, Some(8.0)));
    assert_eq!((raised.asset.as_deref(), raised.rule.as_str()), (Some("test/plant/line/pot-1"), "H"));
    assert_eq!(raised.alarm_id, out.alarms[1].alarm_id);
    assert_eq!((raised.cause.sequence_number, raised.cause.item), (4, 0));
}

#[test]
fn a_growing_peak_is_told_once_a_minute() {
    let mut partition = volts(r#"alarm.H = {above=8, deadband=1, priority="low"}"#);
    let out = feed(&mut partition, &[(0, "9"), (30, "12"), (59, "9"), (60, "9"), (100, "13"), (120, "9"), (180, "14")]);
    let expected = [
        (0, 0, "H: voltage 9 V, above 8 V"),
        (60, 1, "H: voltage reached 12 V, above 8 V"),
        (120, 2, "H: voltage reached 13 V, above 8 V"),
        (180, 3, "H: voltage reached 14 V, above 8 V"),
    ];
    assert_eq!(told(&out.alarms), expected);
}

#[test]
fn rates_scores_and_states_have_alarms_of_their_own() {
    let mut rate = volts(r#"alarm.fast = {rate_above=15, per="1min", priority="low"}"#);
    let out = feed(&mut rate, &[(0, "1"), (4, "2"), (5, "2.5"), (6, "2.5")]);
    let expected = [
        (5, 0, "fast: rate of voltage 30 V/1min, above 15 V/1min"),
        (6, 1, "fast: rate of voltage back at 0 V/1min, peak 30 V/1min"),
    ];
    assert_eq!(told(&out.alarms), expected, "15 a minute is not above 15");

    let metric = "unit = \"V\"\nresolution = 0.5\ndetector = \"ewma\"";
    let mut score =
        Partition::new("test/1/0", dictionary(metric, r#"alarm.odd = {score_above=6, deadband=2, priority="low"}"#));
    let out = feed(&mut score, &[(0, "4"), (1, "9"), (11, "4"), (12, "4")]);
    assert_eq!(told(&out.alarms), [], "still learning at the step, and near the mean afterwards");
    assert_eq!(out.readings.score_state, [1, 1, 0, 0]);
    let mut score =
        Partition::new("test/1/0", dictionary(metric, r#"alarm.odd = {score_above=6, deadband=2, priority="low"}"#));
    let out = feed(&mut score, &[(0, "4"), (1, "4"), (2, "8"), (3, "4")]);
    assert_eq!(told(&out.alarms)[0], (2, 0, "odd: score of voltage 8, above 6"));
    assert_eq!((out.alarms[0].value, out.alarms[0].score, out.alarms[0].peak), (8.0, Some(8.0), 8.0));

    let metric = "states = {off=0, melting=1, fault=9}";
    let mut state =
        Partition::new("test/1/0", dictionary(metric, r#"alarm.fault = {is="fault", on="5s", priority="critical"}"#));
    let out = feed(&mut state, &[(0, "\"fault\""), (4, "1"), (5, "9"), (10, "\"fault\""), (11, "\"off\"")]);
    assert_eq!(told(&out.alarms), [(10, 0, "fault: voltage is fault"), (11, 1, "fault: voltage is off")]);
    assert_eq!((out.alarms[1].peak, out.alarms[1].threshold, out.alarms[1].priority), (9.0, None, 3));
}

#[test]
fn a_reading_out_of_order_is_neither_scored_nor_looked_at() {
    let mut partition = volts(r#"alarm.H = {above=8, priority="low"}"#);
    let out = feed(&mut partition, &[(10, "5"), (9, "50"), (10, "50"), (11, "6")]);
    assert_eq!(told(&out.alarms), []);
    assert_eq!(out.latest, [3]);
}

#[test]
fn a_change_of_dictionary_clears_what_it_removes_and_goes_on_with_the_rest() {
    let rules = format!("{}\nalarm.L = {{below=20, priority=\"low\"}}", HIGH.replace("above=8", "above=30"));
    let mut partition = volts(&rules);
    let out = feed(&mut partition, &[(0, "19")]);
    assert_eq!(told(&out.alarms), [(0, 0, "L: voltage 19 V, below 20 V")]);

    partition.change_dictionary(dictionary("unit = \"V\"", &rules.replace("below=20", "below=15")), 1);
    let out = feed(&mut partition, &[(1, "14"), (3, "16")]);
    assert_eq!(told(&out.alarms), [(3, 1, "L: voltage back at 16 V, peak 14 V")], "it goes on under the new limit");

    let mut partition = volts(&rules);
    let raised = feed(&mut partition, &[(0, "19")]).alarms.remove(0);
    partition.change_dictionary(dictionary("unit = \"V\"", HIGH), 1);
    let state = partition.snapshot();
    let mut resumed = Partition::restore("test/1/0", dictionary("unit = \"V\"", HIGH), &state).unwrap();
    for partition in [&mut partition, &mut resumed] {
        let out = feed(partition, &[(7, "1"), (8, "2")]);
        assert_eq!(told(&out.alarms), [(0, 1, "L: cleared, the rule was removed or changed")]);
        let cleared = &out.alarms[0];
        assert_eq!((cleared.cause.sequence_number, cleared.cause.item), (1, -1));
        assert_eq!((&cleared.alarm_id, &cleared.asset), (&raised.alarm_id, &raised.asset));
        assert_eq!((cleared.value, cleared.peak, cleared.threshold), (19.0, 19.0, Some(20.0)));
    }
}

#[test]
fn i5_pending_and_active_alarms_survive_a_snapshot() {
    let readings = [(0, "9"), (2, "9"), (3, "11"), (5, "6"), (64, "20"), (70, "6"), (74, "6"), (75, "6")];
    let whole = feed(&mut volts(HIGH), &readings).alarms;
    assert_eq!(whole.len(), 3);
    for cut in 0..readings.len() {
        let mut first = volts(HIGH);
        let mut alarms = feed(&mut first, &readings[..cut]).alarms;
        let mut second = Partition::restore("test/1/0", dictionary("unit = \"V\"", HIGH), &first.snapshot()).unwrap();
        assert_eq!(second.snapshot(), first.snapshot());
        alarms.extend(feed(&mut second, &readings[cut..]).alarms);
        assert_eq!(alarms, whole, "cut at {cut}");
    }
}
