//! The dictionary from outside: the example plant, bad texts and what is said about them, arbitrary bytes.

use alumicatalyst_core::dictionary::compiled::{Condition, Conversion, Detector, Metric, Priority, TimeFormat};
use alumicatalyst_core::dictionary::{Dictionary, Problems};
use proptest::prelude::*;
use std::collections::BTreeSet;

const SMELTER: &str = include_str!("../../flows/smelter.toml");
/// Changes only with the meaning of the example plant or the compiled form; the latter is a change of FORMAT.
const SMELTER_SHA256: &str = "4a5ca631c842ece74ba96cfacdc3fcd7d413dc1d6fd4f3cae8f28263c216832d";

fn smelter() -> Dictionary {
    Dictionary::from_toml(SMELTER).unwrap_or_else(|problems| panic!("{problems}"))
}

fn metric<'a>(dictionary: &'a Dictionary, device: &str, name: &str) -> &'a Metric {
    let compiled = dictionary.compiled();
    let of_device = compiled.series.iter().filter(|series| series.device == device);
    of_device.map(|series| &compiled.metrics[series.metric as usize]).find(|metric| metric.name == name).unwrap()
}

#[test]
fn the_example_plant_has_167_series() {
    let dictionary = smelter();
    let compiled = dictionary.compiled();
    assert_eq!(compiled.series.len(), 167);
    assert_eq!((compiled.name.as_str(), compiled.version.as_str()), ("example-smelter", "1"));
    assert_eq!(compiled.payload.time_format, TimeFormat::Rfc3339);
    assert_eq!(dictionary.properties(), ["iothub-connection-device-id"]);
    assert!(compiled.unknown.is_none());
    let furnace = metric(&dictionary, "furnace-3", "temperature");
    assert_eq!(furnace.conversion, Conversion { subtract: 32.0, multiply: 5.0, divide: 9.0 });
    assert_eq!(furnace.windows[1].hop_us, 60_000_000);
    assert_eq!(furnace.alarms[1].condition, Condition::RateAbove { limit: 15.0, per_us: 60_000_000 });
    let current = metric(&dictionary, "rectifier-1", "line_current");
    assert_eq!(current.conversion, Conversion { subtract: 0.0, multiply: 1.0, divide: 1000.0 });
    assert_eq!(current.detector, Detector::Ewma { half_life_us: 600_000_000, learn: 300, store_above: 3.0 });
    let bath = metric(&dictionary, "pot-048", "bath_temperature");
    assert_eq!((bath.out_of_orderness_us, bath.detector), (86_400_000_000, Detector::None));
    let status = metric(&dictionary, "furnace-1", "status");
    assert_eq!((status.alarms[0].condition, status.detector), (Condition::Is { code: 9 }, Detector::None));
    let hall = compiled.series.iter().find(|series| series.device == "hall-1").unwrap();
    assert_eq!(hall.asset, "example/north/reduction/line-1");
    let pot = compiled.series.iter().find(|series| series.device == "pot-007").unwrap();
    assert_eq!(pot.asset, "example/north/reduction/line-1/pot-007");
}

#[test]
fn an_override_replaces_key_by_key() {
    let dictionary = smelter();
    let (usual, relined) =
        (metric(&dictionary, "pot-016", "cell_voltage"), metric(&dictionary, "pot-017", "cell_voltage"));
    assert_eq!(usual.alarms[0].condition, Condition::Above { limit: 4.7 });
    assert_eq!(relined.alarms[0].condition, Condition::Above { limit: 4.85 });
    assert_eq!(relined.alarms[0].priority, Priority::Low);
    assert_eq!(relined.alarms[0].deadband, usual.alarms[0].deadband);
    assert_eq!(relined.alarms[1..], usual.alarms[1..]);
}

#[test]
fn the_digest_of_the_example_plant_stays() {
    assert_eq!(smelter().sha256(), SMELTER_SHA256);
}

#[test]
fn the_compiled_form_loads_to_the_same_dictionary() {
    let dictionary = smelter();
    assert_eq!(Dictionary::from_json(dictionary.to_json()).unwrap(), dictionary);
    let spread = dictionary.to_json().replace(',', " ,\n ");
    assert_eq!(Dictionary::from_json(&spread).unwrap().to_json(), dictionary.to_json());
}

const SMALL: &str = r#"
name = "plant"
version = "1"
site = "a/b"
[payload]
device = "device"
time = {field="ts"}
metric = "metric"
value = "value"
[machine.pump]
device = "pump-{1..2}"
asset = "line/{device}"
[machine.pump.flow]
unit = "L/min"
sent_in = "m3/h"
range = [0, 100]
alarm.H = {above=80, deadband=5, on="10s", priority="high"}
alarm.L = {below=20, priority="low"}
[machine.pump.status]
states = {off=0, on=1}
"#;

#[test]
fn the_digest_does_not_depend_on_order_or_style() {
    let other = r#"
[machine.renamed.status.states]
on = 1
off = 0x0
[machine.renamed]
asset = "line/{device}"
flow.alarm.L = {priority="low", below=2e1}
flow.alarm.H = {off="0s", priority="high", on="10000ms", deadband=5.0, above=80.0}
flow.range = [-0.0, 1_00.0]
flow.sent_in = "m3/h"
flow.unit = 'L/min'
device = ["pump-2", "pump-1"]
[payload]
value = "value"
metric = "metric"
time.format = "rfc3339"
time.field = ["ts"]
device = ["device"]
ignore = []
[time]
duplicates = 8
max_age = "4w2d"
"#
    .replace("4w2d", "720h");
    let other = format!("time_zone = \"UTC\"\nsite = \"a/b\"\nversion = \"1\"\nname = \"plant\"\n{other}");
    let (left, right) =
        (Dictionary::from_toml(SMALL).unwrap(), Dictionary::from_toml(&other).unwrap_or_else(|p| panic!("{p}")));
    assert_eq!(left.to_json(), right.to_json());
    assert_eq!(left.sha256(), right.sha256());
}

fn problems(text: &str) -> Problems {
    Dictionary::from_toml(text).err().unwrap_or_else(|| panic!("accepted:\n{text}"))
}

/// What is written instead of what, the line of the problem, its key, and what its message says.
#[rustfmt::skip]
const BROKEN: &[(&str, &str, &str, &str, &str)] = &[
    // Keys and types
    ("name = \"plant\"", "nam = \"plant\"", "nam =", "nam", "did you mean \"name\"?"),
    ("name = \"plant\"", "", "", "name", "missing"),
    ("version = \"1\"", "version = 1", "version", "version", "text in quotes"),
    ("site = \"a/b\"", "site = \"a//b\"", "site", "site", "a path"),
    ("site = \"a/b\"", "site = \"a/b\"\ntime_zone = \"Oslo time\"", "time_zone", "time_zone", "IANA"),
    ("site = \"a/b\"", "site = \"a/b\"\nsite = \"c\"", "site = \"c\"", "", "not TOML"),
    ("range = [0, 100]", "range = [0, 100", "alarm.H", "", "not TOML"),
    ("range = [0, 100]", "rnage = [0, 100]", "rnage", "machine.pump.flow.rnage", "did you mean \"range\"?; allowed: unit, sent_in"),
    ("range = [0, 100]", "range = [100, 0]", "range", "machine.pump.flow.range", "the smaller number first"),
    ("range = [0, 100]", "range = [0, inf]", "range", "machine.pump.flow.range", "two finite numbers"),
    ("range = [0, 100]", "range = [0, 1, 2]", "range", "machine.pump.flow.range", "two finite numbers"),
    ("range = [0, 100]", "resolution = 0", "resolution", "machine.pump.flow.resolution", "above zero"),
    ("range = [0, 100]", "every = \"1m\"", "every", "machine.pump.flow.every", "not a duration; allowed: a whole number and us, ms, s, min"),
    ("range = [0, 100]", "every = \"0s\"", "every", "machine.pump.flow.every", "above zero"),
    ("range = [0, 100]", "duplicates = 5000", "duplicates", "machine.pump.flow.duplicates", "from 0 to 1024"),
    ("range = [0, 100]", "detector = \"ewna\"", "detector", "machine.pump.flow.detector", "did you mean \"ewma\"?"),
    // Units
    ("unit = \"L/min\"", "unit = \"l/min\"", "unit", "machine.pump.flow.unit", "did you mean \"L/min\"?; allowed: 1 %"),
    ("unit = \"L/min\"", "", "[machine.pump.flow]", "machine.pump.flow.unit", "missing"),
    ("sent_in = \"m3/h\"", "sent_in = \"kg\"", "sent_in", "machine.pump.flow.sent_in", "allowed: L/h L/min L/s m3/h"),
    ("states = {off=0, on=1}", "unit = \"V\"\n[machine.valve]\ndevice = \"v\"\n[machine.valve.flow]\nunit = \"m3/h\"", "unit = \"m3/h\"", "machine.valve.flow.unit", "one unit"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\nunit = \"V\"", "unit = \"V\"", "machine.pump.status.unit", "beside states"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\nsent_in = \"V\"", "sent_in = \"V\"", "machine.pump.status.sent_in", "beside states"),
    ("states = {off=0, on=1}", "states = {off=0, on=0}", "states", "machine.pump.status.states.on", "a code of its own"),
    ("states = {off=0, on=1}", "states = {off=0, on=1.5}", "states", "machine.pump.status.states.on", "a whole number"),
    ("states = {off=0, on=1}", "states = {}", "states", "machine.pump.status.states", "1 to 1024 states"),
    // Windows
    ("range = [0, 100]", "windows = [\"10s/3s\"]", "windows", "machine.pump.flow.windows", "does not divide"),
    ("range = [0, 100]", "windows = [\"60s\", \"1min\"]", "windows", "machine.pump.flow.windows", "each window once"),
    ("range = [0, 100]", "windows = [\"1ms\"]", "windows", "machine.pump.flow.windows", "more than 10000 windows open"),
    ("range = [0, 100]", "windows = [\"30d/1s\"]", "windows", "machine.pump.flow.windows", "more than 10000 windows open"),
    ("range = [0, 100]", "windows = [\"1s\",\"2s\",\"3s\",\"4s\",\"5s\",\"6s\",\"7s\",\"8s\",\"9s\"]", "windows", "machine.pump.flow.windows", "at most 8"),
    // Rules
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=20}", "alarm.L", "machine.pump.flow.alarm.L.priority", "missing; allowed: low, medium, high, critical"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.above", "exactly one of above, below"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=20, above=30, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.below", "exactly one of"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=20, dead_band=1, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.dead_band", "did you mean \"deadband\"?"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=20, per=\"1s\", priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.per", "beside rate_above"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {rate_below=-20, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.per", "missing"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {score_above=3, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.score_above", "needs a detector"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {is=\"on\", priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.is", "needs states"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=90, priority=\"low\"}", "alarm.H", "machine.pump.flow.alarm.H.above", "overlaps below = 90 of \"L\""),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=76, priority=\"low\"}", "alarm.H", "machine.pump.flow.alarm.H.deadband", "the span between the two limits"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=20, deadband=90, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.deadband", "never clear"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.L = {below=-20, priority=\"low\"}", "alarm.L", "machine.pump.flow.alarm.L.below", "within the range [0, 100]"),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.M = {above=80, priority=\"low\"}", "alarm.M", "machine.pump.flow.alarm.M.above", "same condition as that of \"H\""),
    ("alarm.L = {below=20, priority=\"low\"}", "alarm.HH = {above=70, priority=\"low\"}", "alarm.HH", "machine.pump.flow.alarm.HH.above", "greater than 80"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\nalarm.x = {is=\"of\", priority=\"low\"}", "alarm.x", "machine.pump.status.alarm.x.is", "did you mean \"off\"?"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\nalarm.x = {above=0.5, priority=\"low\"}", "alarm.x", "machine.pump.status.alarm.x.above", "`is` for a metric with states"),
    // Machines
    ("device = \"pump-{1..2}\"", "device = \"pump-{1..2\"", "device = \"pump", "machine.pump.device", "a brace is not closed"),
    ("device = \"pump-{1..2}\"", "device = [\"pump-1\", \"pump-{1..2}\"]", "device = [", "machine.pump.device", "twice"),
    ("device = \"pump-{1..2}\"", "device = \"pump-{1..9999999}\"", "device = \"pump", "machine.pump.device", "too many names"),
    ("device = \"pump-{1..2}\"", "device = \"pump-{1..60000}\"", "device = \"pump", "machine.pump.device", "more series than allowed"),
    ("device = \"pump-{1..2}\"", "device = []", "device = []", "machine.pump.device", "at least one"),
    ("device = \"pump-{1..2}\"", "", "[machine.pump]", "machine.pump.device", "missing"),
    ("device = \"pump-{1..2}\"", "device = \"\"", "device = \"\"", "machine.pump.device", "1 to 256 bytes"),
    ("asset = \"line/{device}\"", "asset = \"line/{unit}\"", "asset", "machine.pump.asset", "area/line/{device}"),
    ("asset = \"line/{device}\"", "aset = \"line/{device}\"", "aset", "machine.pump.aset", "did you mean \"asset\"?"),
    ("[machine.pump.status]", "[machine.spare]\ndevice = \"pump-2\"\n[machine.spare.flow]\nunit = \"L/min\"\n[machine.spare.status]", "[machine.spare.flow]", "machine.spare.flow", "each device and metric once"),
    ("[machine.pump.status]", "[machine.spare]\ndevice = \"x\"\n[machine.pump.status]", "[machine.spare]", "machine.spare", "without metrics"),
    // Payload
    ("device = \"device\"", "", "[payload]", "payload.device", "missing"),
    ("time = {field=\"ts\"}", "time = \"ts\"", "time", "payload.time", "a table"),
    ("time = {field=\"ts\"}", "time = {field=\"ts\", format=\"epoch\"}", "time", "payload.time.format", "allowed: rfc3339, epoch_s"),
    ("time = {field=\"ts\"}", "time = {field=\"device\"}", "time", "payload.time", "named by payload.device already"),
    ("value = \"value\"", "", "metric = ", "payload.metric", "both, or neither"),
    ("value = \"value\"", "value = \"@value\"", "value", "payload.value", "not an envelope property"),
    ("value = \"value\"", "value = \"value\"\nunknown = \"keep\"", "unknown", "payload.unknown", "allowed: reject, accept"),
    ("value = \"value\"", "value = \"value\"\nrename = {f=\"flwo\"}", "rename", "payload.rename.f", "did you mean \"flow\"?"),
    ("value = \"value\"", "value = \"value\"\nrename = {f=\"flow\"}\nignore = [\"f\"]", "ignore", "payload.ignore", "one of the two"),
    ("metric = \"metric\"\nvalue = \"value\"", "quality = \"flow\"", "quality", "payload.quality", "members that are no metric"),
    ("metric = \"metric\"\nvalue = \"value\"", "ignore = [\"flow\"]", "ignore", "payload.ignore", "members that are no metric"),
    // Defaults and bounds
    ("[machine.pump]", "[time]\nidle = \"0s\"\n[machine.pump]", "idle", "time.idle", "above zero"),
    ("[machine.pump]", "[default]\nwindows = \"10s\"\n[machine.pump]", "windows", "default.windows", "a list of texts"),
    ("[machine.pump]", "[default]\nwindow = [\"10s\"]\n[machine.pump]", "window", "default.window", "did you mean \"windows\"?"),
    ("[machine.pump]", "[detector.ewma]\nhalf_life = \"0s\"\n[machine.pump]", "half_life", "detector.ewma.half_life", "above zero"),
    ("[machine.pump]", "[detector.knn]\nk = 3\n[machine.pump]", "[detector.knn]", "detector.knn", "allowed: ewma"),
    ("[machine.pump]", "[bounds]\nseries = 1\n[machine.pump]", "device = \"pump", "machine.pump.device", "too many names"),
    ("[machine.pump]", "[bounds]\ndepth = 1000\n[machine.pump]", "depth", "bounds.depth", "from 1 to 512"),
    // Overrides
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flow\"\nalarm.H.above = 85", "[[override]]", "override[0].reason", "missing"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-3\"\nmetric = \"flow\"\nreason = \"x\"\nalarm.H.above = 85", "device = \"pump-3\"", "override[0].device", "did you mean \"pump-1\"?"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flows\"\nreason = \"x\"\nalarm.H.above = 85", "metric = \"flows\"", "override[0].metric", "allowed: flow, status"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flow\"\nreason = \"x\"", "[[override]]", "override[0]", "overrides nothing"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flow\"\nreason = \"x\"\nalarm.H.above = 85\n[[override]]\ndevice = \"pump-{1..2}\"\nmetric = \"flow\"\nreason = \"y\"\nalarm.H.above = 86", "alarm.H.above = 86", "override[1].alarm.H.above", "each key once"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flow\"\nreason = \"x\"\nalarm.H.above = 850", "alarm.H.above = 850", "override[0].alarm.H.above", "within the range"),
    ("states = {off=0, on=1}", "states = {off=0, on=1}\n[[override]]\ndevice = \"pump-1\"\nmetric = \"flow\"\nreason = \"x\"\nunit = \"L/h\"", "unit = \"L/h\"", "override[0].unit", "one unit"),
];

#[test]
fn every_problem_names_line_key_value_and_what_is_allowed() {
    Dictionary::from_toml(SMALL).unwrap();
    for (from, to, at, key, message) in BROKEN {
        assert!(SMALL.contains(from), "{from}");
        let text = SMALL.replacen(from, to, 1);
        let found = problems(&text);
        let line = text.lines().position(|line| line.contains(at)).map(|index| index as u32 + 1);
        let hit = found.as_slice().iter().find(|problem| problem.key == *key && problem.message.contains(message));
        let hit = hit.unwrap_or_else(|| panic!("{to}\nwanted {key}: {message}\n{found}"));
        assert_eq!(hit.line, line, "{to}\n{found}");
        assert!(hit.message.contains("allowed:") || key.is_empty(), "{found}");
    }
}

#[test]
fn a_single_mistake_is_told_on_a_single_line() {
    for (from, to, _, _, _) in BROKEN {
        let found = problems(&SMALL.replacen(from, to, 1));
        let lines: BTreeSet<_> = found.as_slice().iter().map(|problem| problem.line).collect();
        // A key spelled wrongly is unknown, and missing under its right name.
        let most = if to.contains("nam =") { 2 } else { 1 };
        assert!(lines.len() <= most, "{to}\n{found}");
    }
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_lines() {
    let text = SMALL
        .replace("version = \"1\"", "versoin = \"1\"")
        .replace("\"m3/h\"", "\"m\"")
        .replace("above=80", "above=800")
        .replace("off=0", "off=\"x\"");
    let found = problems(&text);
    let lines: Vec<_> = found.as_slice().iter().map(|problem| problem.line).collect();
    assert_eq!(found.as_slice().len(), 5, "{found}");
    assert!(lines.is_sorted());
    assert_eq!(found.omitted(), 0);
    let shown = found.to_string();
    assert!(shown.contains("line 15: machine.pump.flow.sent_in = \"m\": a length cannot be converted"), "{shown}");
}

#[test]
fn a_bad_pattern_is_not_told_again_by_every_override() {
    let text = SMELTER.replace("pot-{001..048}", "pot-{001..48}");
    assert_eq!(problems(&text).as_slice().len(), 1);
}

/// Texts that would take hours, or the whole stack, if anything in them were not bounded.
#[test]
fn a_hostile_text_is_refused_soon() {
    let lines = |line: &dyn Fn(usize) -> String| (0..50_000).map(line).collect::<Vec<_>>().join("\n");
    let nested = |open: &str, count: usize| format!("a = {}", open.repeat(count));
    let machines = lines(&|index| format!("[machine.m{index}]\ndevice = \"x{index}-{{1..90000}}\""));
    let overrides = lines(&|index| {
        format!("[[override]]\ndevice = \"pimp-{{1..90000}}\"\nmetric = \"flow\"\nreason = \"{index}\"")
    });
    let rules = lines(&|index| format!("[machine.pump.flow.alarm.r{index}]\nabove = {index}"));
    let states = lines(&|index| format!("s{index} = {index}"));
    let renames = lines(&|index| format!("f{index} = \"flew\""));
    let texts = [
        nested("[", 1_000_000),
        nested("{a = ", 1_000_000),
        format!("a{} = 1", ".a".repeat(1_000_000)),
        format!("[a{}]", ".a".repeat(1_000_000)),
        format!("{SMALL}{machines}"),
        format!("{SMALL}{overrides}"),
        format!("{SMALL}{rules}"),
        format!("{SMALL}[machine.pump.mode.states]\n{states}"),
        format!("{SMALL}[payload.rename]\n{renames}"),
        " ".repeat(17 << 20),
    ];
    for text in texts {
        assert!(!problems(&text).as_slice().is_empty());
    }
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let text = (0..1000).fold(SMALL.to_owned(), |text, index| format!("key{index} = 1\n{text}"));
    let found = problems(&text);
    assert_eq!((found.as_slice().len(), found.omitted()), (200, 800));
    assert!(found.to_string().ends_with("... and 800 more"));
}

#[test]
fn a_compiled_form_that_does_not_agree_with_itself_is_refused() {
    let good = Dictionary::from_toml(SMALL).unwrap().to_json().to_owned();
    let cases = [
        ("\"metric\":1", "\"metric\":7", "no such metric"),
        ("\"metric\":1", "\"metric\":-1", "not a compiled dictionary"),
        ("\"metric\":1", "\"metric\":0", "sorted by device and metric"),
        ("\"pump-2\"", "\"pump-0\"", "sorted by device and metric"),
        ("\"a/b/line/pump-2\"", "\"c/pump-2\"", "below the site"),
        ("\"idle_us\":120000000", "\"idle_us\":0", "metrics.0.idle = 0s"),
        ("\"length_us\":10000000", "\"length_us\":1", "length and hop that the name says"),
        ("\"divide\":3.0", "\"divide\":0.0", "above zero"),
        ("\"range\":[0.0,100.0]", "\"range\":[0.0,1e999]", "not a compiled dictionary"),
        ("\"rule\":\"L\"", "\"rule\":\"H\"", "rules sorted by name"),
        ("\"depth\":32", "\"depth\":0", "from 1 to 512"),
        ("\"site\":\"a/b\"", "\"site\":\"\"", "site = \"\""),
        ("\"name\":\"plant\"", "\"name\":\"plant\",\"more\":1", "not a compiled dictionary"),
        ("\"unit\":\"L/min\"", "\"unit\":\"litre\"", "not a unit"),
        ("\"out_of_orderness_us\":5000000", "\"out_of_orderness_us\":9223372036854775807", "out_of_orderness"),
    ];
    for (from, to, message) in cases {
        assert!(good.contains(from), "{from} in {good}");
        let found = Dictionary::from_json(&good.replace(from, to)).unwrap_err();
        assert!(found.to_string().contains(message), "{to}: {found}");
    }
    for text in ["", "{}", "[]", "null", "{\"name\":\"x\"}", &"[".repeat(100_000)] {
        assert!(Dictionary::from_json(text).is_err());
    }
}

#[test]
fn unlisted_series_take_the_defaults_where_they_are_accepted() {
    let text = SMALL.replace("value = \"value\"", "value = \"value\"\nunknown = \"accept\"\n[time]\nidle = \"7s\"");
    let dictionary = Dictionary::from_toml(&text).unwrap();
    let unknown = dictionary.compiled().unknown.as_ref().unwrap();
    assert_eq!((unknown.idle_us, unknown.range, unknown.windows.len()), (7_000_000, None, 1));
    assert_eq!(Dictionary::from_json(dictionary.to_json()).unwrap(), dictionary);
}

#[test]
fn a_hundred_thousand_series_compile() {
    let text = SMALL.replace("pump-{1..2}", "pump-{00001..50000}");
    let dictionary = Dictionary::from_toml(&text).unwrap();
    assert_eq!((dictionary.compiled().series.len(), dictionary.compiled().metrics.len()), (100_000, 2));
}

/// Pieces that a text is put together from, so that it often gets past the parser.
fn pieces() -> impl Strategy<Value = String> {
    let words: Vec<&'static str> = BROKEN.iter().flat_map(|row| [row.0, row.1]).chain(SMALL.lines()).collect();
    prop::collection::vec(prop::sample::select(words), 0..40).prop_map(|lines| lines.join("\n"))
}

/// The example with a few bytes changed.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<char>()), 1..6).prop_map(move |edits| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, with) in edits {
            let at = at.index(chars.len());
            chars[at] = with;
        }
        chars.into_iter().collect()
    })
}

fn stands_up(text: &str) -> Result<(), TestCaseError> {
    match Dictionary::from_toml(text) {
        Ok(dictionary) => prop_assert_eq!(Dictionary::from_json(dictionary.to_json()), Ok(dictionary)),
        Err(problems) => {
            prop_assert!(!problems.as_slice().is_empty());
            let _ = problems.to_string();
        }
    }
    let _ = Dictionary::from_json(text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        stands_up(&text)?;
    }

    #[test]
    fn arbitrary_pieces_never_panic(text in pieces()) {
        stands_up(&text)?;
    }

    #[test]
    fn a_damaged_dictionary_never_panics(text in damaged(SMALL)) {
        stands_up(&text)?;
    }

    #[test]
    fn what_loads_from_json_is_canonical(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = Dictionary::from_toml(SMALL).unwrap().to_json().as_bytes().to_vec();
        for (at, with) in edits {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if let Ok(dictionary) = Dictionary::from_json(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(Dictionary::from_json(dictionary.to_json()), Ok(dictionary));
        }
    }

    #[test]
    fn numbers_survive_the_compiled_form(low in -1e300..1e300_f64, span in 1e-300..1e300_f64, deadband in 0.0..1e3_f64) {
        prop_assume!(low + span > low);
        let text = SMALL.replace("[0, 100]", &format!("[{low:?}, {:?}]", low + span))
            .replace("above=80, deadband=5", &format!("above=80, deadband={deadband:?}"));
        stands_up(&text)?;
    }
}
