//! The payload decoder from outside: every reason and its place in the order, strictness, and what must not matter.

use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, FRESH, Reason, Rejection, Vocabulary, text_of};
use alumicatalyst_core::dictionary::{Bounds, Payload, TimeFormat};
use alumicatalyst_core::names::Names;
use proptest::prelude::*;

const BOUNDS: Bounds = Bounds { series: 100, body_bytes: 1 << 20, readings_per_envelope: 1_000, depth: 8 };
const TIME: &str = "2026-11-21T10:15:30.123Z";
const TIME_US: i64 = 1_795_256_130_123_000;
const GOOD: &str =
    r#"{"deviceId":"pot-001","metric":"cell_voltage","ts":"2026-11-21T10:15:30.123Z","value":4.213,"q":193}"#;

fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

fn narrow() -> Payload {
    Payload {
        device: strings(["@device", "deviceId", "dev"]),
        time: strings(["ts", "@enqueued"]),
        time_format: TimeFormat::Rfc3339,
        metric: Some("metric".into()),
        value: Some("value".into()),
        quality: Some("q".into()),
        rename: [("volts".to_owned(), "cell_voltage".to_owned())].into(),
        ignore: Vec::new(),
    }
}

fn wide() -> Payload {
    Payload { metric: None, value: None, ignore: strings(["seq", "firmware"]), ..narrow() }
}

fn vocabulary() -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    vocabulary.devices.insert("pot-001");
    vocabulary.devices.insert("a device with a rather long name");
    vocabulary.metrics.insert("cell_voltage");
    vocabulary.metrics.insert("status");
    vocabulary.texts.insert("melting");
    vocabulary
}

/// One row or rejection with its names spelled out, so that results can be compared whatever their ids are.
#[derive(Clone, Debug, PartialEq)]
enum Item {
    Row {
        envelope: u32,
        item: i32,
        device: String,
        metric: String,
        time: i64,
        value: String,
        quality: i16,
        span: (u32, u32),
    },
    Rejected {
        device: Option<String>,
        metric: Option<String>,
        rest: Rejection,
    },
}

fn name(id: u32, names: &Names, decoded: &Decoded) -> String {
    id.checked_sub(FRESH)
        .map_or_else(|| names.name(id).to_owned(), |index| format!("fresh {}", decoded.fresh[index as usize]))
}

fn items(decoded: &Decoded, vocabulary: &Vocabulary) -> Vec<Item> {
    let lengths =
        [decoded.envelope.len(), decoded.item.len(), decoded.device.len(), decoded.metric.len(), decoded.quality.len()];
    assert_eq!(lengths, [decoded.len(); 5]);
    assert_eq!([decoded.event_time.len(), decoded.start.len(), decoded.end.len()], [decoded.len(); 3]);
    let rows = (0..decoded.len()).map(|row| {
        let value = decoded.value[row];
        assert!(value.is_finite() || text_of(value).is_some());
        Item::Row {
            envelope: decoded.envelope[row],
            item: decoded.item[row],
            device: name(decoded.device[row], &vocabulary.devices, decoded),
            metric: name(decoded.metric[row], &vocabulary.metrics, decoded),
            time: decoded.event_time[row],
            value: text_of(value).map_or_else(|| format!("{value:?}"), |id| name(id, &vocabulary.texts, decoded)),
            quality: decoded.quality[row],
            span: (decoded.start[row], decoded.end[row]),
        }
    });
    let rejected = decoded.rejected.iter().map(|rejection| Item::Rejected {
        device: rejection.device.map(|id| name(id, &vocabulary.devices, decoded)),
        metric: rejection.metric.map(|id| name(id, &vocabulary.metrics, decoded)),
        rest: Rejection { device: None, metric: None, ..rejection.clone() },
    });
    let mut items: Vec<Item> = rows.chain(rejected).collect();
    items.sort_by_key(|item| match item {
        Item::Row { envelope, item, .. } => (*envelope, *item),
        Item::Rejected { rest, .. } => (rest.envelope, rest.item),
    });
    items
}

fn decode(decoder: &mut Decoder, bodies: &[impl AsRef<[u8]>], properties: &[Option<&str>]) -> Decoded {
    let mut offsets = vec![3];
    let mut bytes = b"\xff}\"".to_vec();
    for body in bodies {
        bytes.extend_from_slice(body.as_ref());
        offsets.push(bytes.len() as i64);
    }
    bytes.extend_from_slice(b"\"}]\xff");
    let mut decoded = Decoded::default();
    let envelopes = Envelopes { bodies: &bytes, offsets: &offsets, properties, skip: &[] };
    decoder.decode(&envelopes, &vocabulary(), &mut decoded);
    decoded
}

fn decode_items(payload: &Payload, bodies: &[impl AsRef<[u8]>]) -> Vec<Item> {
    items(&decode(&mut Decoder::new(payload, &BOUNDS), bodies, &[]), &vocabulary())
}

/// The reason for which the only item of a body is rejected.
fn reason(payload: &Payload, body: impl AsRef<[u8]>) -> (Reason, i32) {
    let shown = String::from_utf8_lossy(body.as_ref()).chars().take(200).collect::<String>();
    let decoded = decode(&mut Decoder::new(payload, &BOUNDS), &[body], &[]);
    assert_eq!((decoded.len(), decoded.rejected.len()), (0, 1), "{shown}: {decoded:?}");
    (decoded.rejected[0].reason, decoded.rejected[0].item)
}

fn object(members: &[(&str, &str)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

#[test]
fn a_narrow_object_is_a_reading() {
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[GOOD, &format!(" [{GOOD} ,\n{GOOD}]\t"), "[]"], &[]);
    assert_eq!(decoded.rejected, []);
    assert_eq!((&*decoded.envelope, &*decoded.item), (&[0, 1, 1][..], &[0, 0, 1][..]));
    assert_eq!((&*decoded.device, &*decoded.metric), (&[0; 3][..], &[0; 3][..]));
    assert_eq!((&*decoded.event_time, &*decoded.value), (&[TIME_US; 3][..], &[4.213; 3][..]));
    assert_eq!(decoded.quality, [193; 3]);
    let length = GOOD.len() as u32;
    assert_eq!((&*decoded.start, &*decoded.end), (&[0, 2, length + 5][..], &[length, length + 2, length * 2 + 5][..]));
    assert!(decoded.fresh.is_empty());
}

#[test]
fn names_and_texts_outside_the_vocabulary_are_fresh_once() {
    let body = GOOD.replace("pot-001", "new\\u0041").replace("cell_voltage", "newA").replace("4.213", "\"newA\"");
    let plain = GOOD.replace("pot-001", "newA").replace("4.213", "\"melting\"").replace("cell_voltage", "volts");
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[body, plain], &[]);
    assert_eq!(decoded.fresh, ["newA".into()]);
    assert_eq!((&*decoded.device, &*decoded.metric), (&[FRESH; 2][..], &[FRESH, 0][..]));
    assert_eq!([text_of(decoded.value[0]), text_of(decoded.value[1])], [Some(FRESH), Some(0)]);
}

#[test]
fn a_wide_object_is_a_row_of_readings() {
    let body = r#"{"volts":1.5,"seq":7,"status":"melting","none":null,"ts":"2026-11-21T11:15:30.123+01:00","new":-2e-3,"dev":"pot-001","firmware":{"a":[1]}}"#;
    let decoded = decode(&mut Decoder::new(&wide(), &BOUNDS), &[body], &[]);
    assert_eq!(decoded.rejected, []);
    assert_eq!((&*decoded.item, &*decoded.metric), (&[0, 1, 2][..], &[0, 1, FRESH | 1][..]));
    assert_eq!((decoded.value[0], text_of(decoded.value[1]), decoded.value[2]), (1.5, Some(0), -0.002));
    assert_eq!(
        (&*decoded.device, &*decoded.event_time, &*decoded.quality),
        (&[0; 3][..], &[TIME_US; 3][..], &[192; 3][..])
    );
    assert_eq!((&*decoded.start, &*decoded.end), (&[0; 3][..], &[body.len() as u32; 3][..]));
    assert_eq!(decoded.fresh, ["none".into(), "new".into()]);
}

#[test]
fn properties_are_candidates_in_the_order_of_the_list() {
    let mut decoder = Decoder::new(&narrow(), &BOUNDS);
    assert_eq!(decoder.wanted(), ["device", "enqueued"]);
    let object = r#"{"deviceId":"pot-001","metric":"m","value":1,"ts":null}"#;
    let properties = [Some("p"), Some(TIME), None, Some(TIME), Some(""), None, Some("p"), Some("1"), None, None];
    let decoded = decode(&mut decoder, &[object; 5], &properties);
    let device = |id| name(id, &vocabulary().devices, &decoded);
    assert_eq!((decoded.envelope.clone(), decoded.event_time.clone()), (vec![0, 1], vec![TIME_US; 2]));
    assert_eq!((device(decoded.device[0]), device(decoded.device[1])), ("fresh p".into(), "pot-001".into()));
    let reasons: Vec<_> = decoded.rejected.iter().map(|rejection| (rejection.envelope, rejection.reason)).collect();
    assert_eq!(reasons, [(2, Reason::MissingDevice), (3, Reason::BadTime), (4, Reason::MissingTime)]);
    let by_member = decode(&mut decoder, &[GOOD], &[None, Some("1")]);
    assert_eq!(by_member.event_time, [TIME_US]);
}

#[test]
fn envelopes_are_rejected_whole_for_the_first_reason_that_applies() {
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(8), "]".repeat(8));
    let many = format!("[{}]", ["1"; 1_001].join(","));
    for (body, expected) in [
        (" ".repeat((1 << 20) + 1).into_bytes(), Reason::TooLarge),
        (b"".to_vec(), Reason::EmptyBody),
        (b" \t\r\n ".to_vec(), Reason::EmptyBody),
        (b"{\"a\":\"\xff\"}".to_vec(), Reason::BadEncoding),
        (b"\xff".to_vec(), Reason::BadEncoding),
        (b"{\"a\":\"\xc3".to_vec(), Reason::BadEncoding),
        (b"\xed\xa0\x80".to_vec(), Reason::BadEncoding),
        (b"\xef\xbb\xbf{}".to_vec(), Reason::BadJson),
        (b"{".to_vec(), Reason::BadJson),
        (b"{}{}".to_vec(), Reason::BadJson),
        (b"{},".to_vec(), Reason::BadJson),
        (b"[{},]".to_vec(), Reason::BadJson),
        (b"{\"x\":\"\\ud800\"}".to_vec(), Reason::BadJson),
        (b"{\"\\udc00\":1}".to_vec(), Reason::BadJson),
        (b"{\"x\":01}".to_vec(), Reason::BadJson),
        (b"{\"x\":'1'}".to_vec(), Reason::BadJson),
        (b"{\"x\":1\0}".to_vec(), Reason::BadJson),
        (deep.clone().into_bytes(), Reason::TooDeep),
        ((deep.clone() + "x").into_bytes(), Reason::BadJson),
        (format!("[{deep},{deep}").into_bytes(), Reason::BadJson),
        (many.clone().into_bytes(), Reason::TooManyReadings),
        (many.replace(']', "").into_bytes(), Reason::BadJson),
        (many.replace("1]", "[[[[[[[[1]]]]]]]]]").into_bytes(), Reason::TooDeep),
        (b"5".to_vec(), Reason::WrongType),
        (b" null ".to_vec(), Reason::WrongType),
        (b"NaN".to_vec(), Reason::WrongType),
        (b"\"x\"".to_vec(), Reason::WrongType),
    ] {
        for payload in [narrow(), wide()] {
            assert_eq!(reason(&payload, &body), (expected, -1), "{}", String::from_utf8_lossy(&body));
        }
    }
}

#[test]
fn a_failed_envelope_leaves_no_rows_and_no_fresh_names() {
    let fresh = GOOD.replace("pot-001", "another").replace("cell_voltage", "other");
    let bodies = [format!("[{fresh},1,{fresh}"), fresh.clone(), format!("[{fresh},{{\"a\":0]}}]")];
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &bodies, &[]);
    assert_eq!(decoded.fresh, ["another".into(), "other".into()]);
    assert_eq!((&*decoded.envelope, &*decoded.device, &*decoded.metric), (&[1][..], &[FRESH][..], &[FRESH | 1][..]));
    let wide_row = r#"{"dev":"another","ts":"2026-11-21T10:15:30Z","left":1,"right":2"#;
    let bodies = [wide_row.to_owned(), wide_row.replace("left", "middle") + "}", wide_row.to_owned() + "}"];
    let decoded = decode(&mut Decoder::new(&wide(), &BOUNDS), &bodies, &[]);
    assert_eq!(decoded.fresh, ["another".into(), "middle".into(), "right".into(), "left".into()]);
    assert_eq!(decoded.metric, [FRESH | 1, FRESH | 2, FRESH | 3, FRESH | 2]);
}

#[test]
fn a_failure_names_its_byte_and_what_was_decoded() {
    let body = format!("[{GOOD}, {}]", GOOD.replace("4.213", "true").replace("pot-001", "p"));
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[body.as_str()], &[]);
    let rejection = &decoded.rejected[0];
    assert_eq!(
        (rejection.item, rejection.reason, rejection.detail),
        (1, Reason::WrongType, "the value is not a number")
    );
    assert_eq!(&body[rejection.at as usize..][..4], "true");
    assert_eq!(&body[rejection.start as usize..rejection.end as usize], &body[GOOD.len() + 3..body.len() - 1]);
    assert_eq!((rejection.device, rejection.metric, rejection.event_time), (Some(FRESH), Some(0), Some(TIME_US)));
    let whole = decode(&mut Decoder::new(&narrow(), &BOUNDS), &["[1,2,}", "{\"a\":\"\u{e9}\\x\"}"], &[]);
    assert_eq!((whole.rejected[0].at, whole.rejected[0].end), (5, 6));
    assert_eq!((whole.rejected[1].at, whole.rejected[1].end), (5, 12));
}

#[test]
fn one_body_does_not_borrow_from_the_next() {
    for cut in 0..=GOOD.len() {
        let (left, right) = GOOD.split_at(cut);
        let expected = usize::from(left.is_empty() || right.is_empty());
        let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[left, right], &[]);
        assert_eq!((decoded.len(), decoded.rejected.len()), (expected, 2 - expected), "{cut}");
    }
    let bytes = "{\"a\":\"\u{20ac}\"}".as_bytes();
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[&bytes[..7], &bytes[7..]], &[]);
    assert_eq!(decoded.rejected.iter().map(|r| r.reason).collect::<Vec<_>>(), [Reason::BadEncoding; 2]);
    // A number at the top level ends with its envelope too.
    assert_eq!(decode_items(&narrow(), &["1", "2"]).len(), 2);
}

#[test]
fn offsets_that_make_no_sense_give_empty_bodies() {
    let mut decoder = Decoder::new(&narrow(), &BOUNDS);
    let mut decoded = Decoded::default();
    let offsets = [0, -1, 5, 3, i64::MAX, i64::MIN, GOOD.len() as i64 + 1, 0, GOOD.len() as i64];
    let envelopes = Envelopes { bodies: GOOD.as_bytes(), offsets: &offsets, properties: &[], skip: &[] };
    decoder.decode(&envelopes, &vocabulary(), &mut decoded);
    assert_eq!(decoded.envelope, [7]);
    assert!(decoded.rejected.iter().all(|rejection| rejection.reason == Reason::EmptyBody));
    let skipped = Envelopes { skip: &[true; 8], ..envelopes };
    decoder.decode(&skipped, &vocabulary(), &mut decoded);
    assert_eq!(decoded, Decoded::default());
}

#[test]
fn epochs_are_read_in_their_unit() {
    for (format, text, us) in [
        (TimeFormat::EpochS, "1795256130.1234567", Some(1_795_256_130_123_456)),
        (TimeFormat::EpochMs, "-1.5", Some(-1_500)),
        (TimeFormat::EpochMs, "1795256130123", Some(TIME_US)),
        (TimeFormat::EpochUs, "-1.5", Some(-2)),
        (TimeFormat::EpochS, "NaN", None),
        (TimeFormat::EpochS, "1e30", None),
        (TimeFormat::EpochS, "\"1795256130\"", None),
        (TimeFormat::Rfc3339, "1795256130", None),
        (TimeFormat::Rfc3339, "\"2026-11-21T10:15:30.123\\u005A\"", Some(TIME_US)),
    ] {
        let payload = Payload { time_format: format, ..narrow() };
        let body = object(&[("dev", "\"d\""), ("metric", "\"m\""), ("value", "1"), ("ts", text)]);
        let decoded = decode(&mut Decoder::new(&payload, &BOUNDS), &[&body], &[]);
        assert_eq!(decoded.event_time, us.into_iter().collect::<Vec<_>>(), "{body}");
        assert!(us.is_some() || decoded.rejected[0].reason == Reason::BadTime, "{body}");
    }
}

#[test]
fn wide_members_fail_one_by_one_and_objects_as_a_whole() {
    let parts = [("dev", "\"pot-001\""), ("ts", "\"2026-11-21T10:15:30.123Z\"")];
    let failures = |members: &[(&str, &str)]| -> Vec<(i32, Option<Reason>)> {
        let of = |item: &Item| match item {
            Item::Row { item, .. } => (*item, None),
            Item::Rejected { rest, .. } => (rest.item, Some(rest.reason)),
        };
        decode_items(&wide(), &[object(members)]).iter().map(of).collect()
    };
    let with = |members: &[(&'static str, &'static str)]| failures(&[&parts[..], members].concat());
    assert_eq!(with(&[]), [(0, Some(Reason::MissingValue))]);
    assert_eq!(with(&[("seq", "1")]), [(0, Some(Reason::MissingValue))]);
    assert_eq!(with(&[("a", "null")]), []);
    assert_eq!(
        with(&[("a", "1"), ("b", "true"), ("n", "null"), ("c", "1e999"), ("", "1"), ("d", "NaN"), ("e", "2")]),
        [
            (0, None),
            (1, Some(Reason::WrongType)),
            (2, Some(Reason::NotFinite)),
            (3, Some(Reason::UnknownMetric)),
            (4, Some(Reason::NotFinite)),
            (5, None)
        ]
    );
    assert_eq!(with(&[("a", "1"), ("a", "2")]), [(0, Some(Reason::RepeatedKey))]);
    assert_eq!(with(&[("a", "null"), ("a", "2")]), [(0, Some(Reason::RepeatedKey))]);
    assert_eq!(with(&[("volts", "1"), ("cell_voltage", "2")]), [(0, Some(Reason::RepeatedKey))]);
    assert_eq!(with(&[("\\u0061", "1"), ("a", "2")]), [(0, Some(Reason::RepeatedKey))]);
    assert_eq!(with(&[("seq", "1"), ("seq", "2"), ("a", "1")]), [(0, None)]);
    assert_eq!(with(&[("a", "1"), ("q", "63")]), [(0, Some(Reason::BadQuality))]);
    assert_eq!(with(&[("a", "null"), ("q", "64.5")]), [(0, Some(Reason::BadQuality))]);
    assert_eq!(with(&[("a", "true"), ("q", "null")]), [(0, Some(Reason::WrongType))]);
    assert_eq!(with(&[("a", "1"), ("b", "2"), ("q", "\"good\""), ("a", "2")]), [(0, Some(Reason::WrongType))]);
    assert_eq!(failures(&[parts[1], ("a", "1"), ("a", "2")]), [(0, Some(Reason::MissingDevice))]);
    let long = format!("\"{}\"", "d".repeat(257));
    assert_eq!(
        failures(&[parts[1], ("a", "1"), ("", "2"), ("b", "[]"), ("dev", &long)]),
        [(0, Some(Reason::UnknownDevice)), (1, Some(Reason::UnknownDevice)), (2, Some(Reason::WrongType))]
    );
    assert_eq!(failures(&[parts[1], ("a", "1"), ("q", "1"), ("dev", &long)]), [(0, Some(Reason::BadQuality))]);
    assert_eq!(failures(&[parts[1], ("a", "null"), ("dev", &long)]), []);
}

#[test]
fn a_rejected_member_has_what_the_object_gives() {
    let body = object(&[("a", "true"), ("dev", "\"pot-001\""), ("ts", "\"2026-11-21T10:15:30.123Z\""), ("", "1")]);
    let decoded = decode(&mut Decoder::new(&wide(), &BOUNDS), &[body.as_str()], &[]);
    let [first, second] = &decoded.rejected[..] else { panic!("{decoded:?}") };
    assert_eq!(
        (first.device, first.event_time, first.at, first.start, first.end),
        (Some(0), Some(TIME_US), 5, 0, body.len() as u32)
    );
    assert_eq!((name(first.metric.unwrap(), &vocabulary().metrics, &decoded), second.metric), ("fresh a".into(), None));
}

#[test]
fn the_bound_on_readings_counts_items() {
    let bounds = Bounds { readings_per_envelope: 3, ..BOUNDS };
    let row = |members: usize| {
        let members: String = (0..members).map(|m| format!(",\"m{m}\":1")).collect();
        format!("{{\"dev\":\"d\",\"ts\":\"{TIME}\"{members}}}")
    };
    for (body, accepted) in [
        (row(3), true),
        (row(4), false),
        (format!("[{},{}]", row(2), row(1)), true),
        (format!("[{},{}]", row(2), row(2)), false),
        // Five members, but one failure of the object as a whole.
        (format!("[1,{{}},{}]", row(5).replace("ts", "x")), true),
        (format!("[1,2,3,{}]", row(1)), false),
        ("[1,2,3]".to_owned(), true),
    ] {
        let decoded = decode(&mut Decoder::new(&wide(), &bounds), &[&body], &[]);
        let whole = decoded.rejected.first().is_some_and(|rejection| rejection.reason == Reason::TooManyReadings);
        assert_eq!(whole, !accepted, "{body}");
        assert!(accepted || (decoded.is_empty() && decoded.fresh.is_empty() && decoded.rejected.len() == 1), "{body}");
    }
}

#[test]
fn depth_counts_from_the_document() {
    for (depth, body, deep) in [
        (0, "{}", true),
        (0, "[]", true),
        (0, "1", false),
        (1, "{}", false),
        (1, "[]", false),
        (1, "[1]", false),
        (1, "[{}]", true),
        (1, "{\"x\":[]}", true),
        (2, "[{}]", false),
        (2, "[{\"x\":1}]", false),
        (2, "[{\"x\":{}}]", true),
        (3, "[{\"x\":{}}]", false),
    ] {
        let bounds = Bounds { depth, ..BOUNDS };
        let decoded = decode(&mut Decoder::new(&narrow(), &bounds), &[body], &[]);
        assert_eq!(decoded.rejected.iter().any(|r| r.reason == Reason::TooDeep), deep, "{depth} {body}");
    }
}

#[test]
fn a_mebibyte_of_anything_is_quick() {
    let start = std::time::Instant::now();
    let size = 1 << 20;
    let bodies = [
        "[".repeat(size),
        "{\"\":".repeat(size / 4),
        "[{\"a\":".repeat(size / 6),
        "[1,".repeat(size / 3),
        "[1]".repeat(size / 3),
        format!("[\"{}", "a".repeat(size - 2)),
        format!("[{}]", ["1"; 1 << 19].join(",").get(..size - 3).unwrap()),
        format!("{{\"value\":{}}}", "9".repeat(size - 10)),
        format!("{{\"deviceId\":\"{}\"}}", "\\u0041".repeat(size / 6 - 10)),
        (0..60_000).map(|n| format!("{}\"k{n}\":{n}", if n == 0 { '{' } else { ',' })).collect::<String>() + "}",
    ];
    for payload in [narrow(), wide()] {
        for format in [TimeFormat::Rfc3339, TimeFormat::EpochS] {
            let mut decoder =
                Decoder::new(&Payload { time_format: format, ..payload.clone() }, &Bounds { depth: 512, ..BOUNDS });
            assert_eq!(decode(&mut decoder, &bodies, &[]).rejected.len(), bodies.len());
        }
    }
    // Short bodies, each of which would go on through all that follow it.
    let open = vec!["[1,"; 100_000];
    assert_eq!(decode(&mut Decoder::new(&narrow(), &BOUNDS), &open, &[]).rejected.len(), open.len());
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

/// What the specification says of a narrow object with these members, written down without regard to speed.
fn expected(members: &[(String, Literal)]) -> Result<(String, String, i64, String, i16), Reason> {
    let mut failures = Vec::new();
    let of = |key: &str| -> Vec<Literal> { members.iter().filter(|(k, _)| k == key).map(|(_, v)| *v).collect() };
    let given = |key: &str| -> Vec<Literal> { of(key).into_iter().filter(|v| v.json != "null").collect() };
    for key in ["deviceId", "dev", "ts", "metric", "value", "q"] {
        if of(key).len() > 1 {
            failures.push(Reason::RepeatedKey);
        }
    }
    let device = ["deviceId", "dev"].map(given).into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    failures.extend(device.iter().filter_map(|v| match v.text {
        None => Some(Reason::WrongType),
        Some("") => Some(Reason::MissingDevice),
        Some(text) => (text.len() > 256).then_some(Reason::UnknownDevice),
    }));
    if device.is_empty() {
        failures.push(Reason::MissingDevice);
    }
    let time = given("ts");
    failures.extend(time.iter().filter_map(|v| match (v.text, v.number) {
        (Some(TIME), _) => None,
        (None, None) => Some(Reason::WrongType),
        _ => Some(Reason::BadTime),
    }));
    if time.is_empty() {
        failures.push(Reason::MissingTime);
    }
    let metric = given("metric");
    failures.extend(metric.iter().filter_map(|v| match v.text {
        None => Some(Reason::WrongType),
        Some("") => Some(Reason::UnknownMetric),
        Some(text) => (text.len() > 256).then_some(Reason::UnknownMetric),
    }));
    if metric.is_empty() {
        failures.push(Reason::UnknownMetric);
    }
    let value = given("value");
    failures.extend(value.iter().filter_map(|v| match (v.text, v.number) {
        (None, None) => Some(Reason::WrongType),
        (None, Some(number)) if !number.is_finite() => Some(Reason::NotFinite),
        _ => None,
    }));
    if value.is_empty() {
        failures.push(Reason::MissingValue);
    }
    let quality = given("q");
    if quality.iter().any(|v| v.number.is_none()) {
        failures.push(Reason::WrongType);
    }
    if let Some(worst) = failures.iter().min() {
        return Err(*worst);
    }
    let vocabulary = vocabulary();
    let spell =
        |text: &str, names: &Names| names.get(text).map_or_else(|| format!("fresh {text}"), |_| text.to_owned());
    let metric = metric[0].text.unwrap();
    let metric = if metric == "volts" { "cell_voltage" } else { metric };
    let value =
        value[0].text.map_or_else(|| format!("{:?}", value[0].number.unwrap()), |text| spell(text, &vocabulary.texts));
    let quality = quality
        .first()
        .map_or(192, |v| v.number.filter(|q| (0.0..=32767.0).contains(q) && q.fract() == 0.0).map_or(-1, |q| q as i16));
    Ok((
        spell(device[0].text.unwrap(), &vocabulary.devices),
        spell(metric, &vocabulary.metrics),
        TIME_US,
        value,
        quality,
    ))
}

#[derive(Clone, Copy, Debug)]
struct Literal {
    json: &'static str,
    text: Option<&'static str>,
    number: Option<f64>,
}

const LONGEST: &str = concat!(
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp",
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"
);

fn literal() -> impl Strategy<Value = Literal> {
    let text = |json: &'static str, text: &'static str| Literal { json, text: Some(text), number: None };
    let number = |json: &'static str, number: f64| Literal { json, text: None, number: Some(number) };
    let other = |json: &'static str| Literal { json, text: None, number: None };
    let long: &'static str = Box::leak(format!("\"{LONGEST}\"").into_boxed_str());
    let too_long: &'static str = Box::leak(format!("\"{LONGEST}p\"").into_boxed_str());
    prop::sample::select(vec![
        text("\"2026-11-21T10:15:30.123Z\"", TIME),
        text("\"2026-11-21T10:15:30.\\u0031\\u00323Z\"", TIME),
        text("\"pot-001\"", "pot-001"),
        text("\"p\\u006ft-001\"", "pot-001"),
        text("\"volts\"", "volts"),
        text("\"status\"", "status"),
        text("\"melting\"", "melting"),
        text("\"a device with a rather long name\"", "a device with a rather long name"),
        text("\"1\"", "1"),
        text("\"\"", ""),
        text(long, LONGEST),
        text(too_long, too_long.trim_matches('"')),
        number("4.25", 4.25),
        number("192", 192.0),
        number("64.0", 64.0),
        number("63", 63.0),
        number("-1", -1.0),
        number("40000", 40000.0),
        number("1e999", f64::INFINITY),
        number("NaN", f64::NAN),
        number("-Infinity", f64::NEG_INFINITY),
        number("Infinity", f64::INFINITY),
        other("null"),
        other("true"),
        other("false"),
        other("[]"),
        other("[1,{\"value\":[]}]"),
        other("{\"deviceId\":\"x\"}"),
    ])
}

/// Members of an object: a sound reading's, some of them replaced, doubled or left out, in any order.
fn members() -> impl Strategy<Value = Vec<(String, Literal)>> {
    let sound = |json: &'static str, text: Option<&'static str>, number: Option<f64>| Literal { json, text, number };
    let base = vec![
        ("deviceId", sound("\"pot-001\"", Some("pot-001"), None)),
        ("metric", sound("\"cell_voltage\"", Some("cell_voltage"), None)),
        ("ts", sound("\"2026-11-21T10:15:30.123Z\"", Some(TIME), None)),
        ("value", sound("1.5", None, Some(1.5))),
    ];
    let key = prop::sample::select(vec![
        "deviceId",
        "dev",
        "ts",
        "metric",
        "value",
        "q",
        "other",
        "a key of more than sixteen bytes",
        "",
    ]);
    (prop::sample::subsequence(base, 2..=4), prop::collection::vec((key, literal()), 0..4))
        .prop_map(|(base, more)| {
            base.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn write(members: &[(String, Literal)], blanks: &[&str]) -> String {
    let mut blank = blanks.iter().cycle();
    let mut blank = || *blank.next().unwrap_or(&"");
    let mut out = format!("{}{{", blank());
    for (at, (key, value)) in members.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let parts = [comma, blank(), "\"", key, "\"", blank(), ":", blank(), value.json, blank()];
        out.extend(parts);
    }
    out + "}" + blank()
}

fn blanks() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![Just(vec![]), prop::collection::vec(prop::sample::select(vec!["", " ", "\n", "\t\r\n  "]), 1..9)]
}

/// A document of some kind, and what a few slips make of it.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let document = prop_oneof![
        (members(), blanks()).prop_map(|(members, blanks)| write(&members, &blanks)),
        prop::collection::vec((members(), blanks()), 0..4).prop_map(|objects| {
            let objects: Vec<String> = objects.iter().map(|(members, blanks)| write(members, blanks)).collect();
            format!("[{}]", objects.join(","))
        }),
        Just("{\"x\":[1,2.5e-3,\"\\ud83d\\ude00\",[[[[[[null]]]]]],{\"\":{}}],\"\u{e9}\":\"\u{20ac}\"}".to_owned()),
    ];
    let slip = (
        any::<prop::sample::Index>(),
        prop::sample::select(b"{}[]\",:\\ \t\n0159.eE+-tfnNIu/\x00\x1f\x7f\xc3\xa9\xff".to_vec()),
        0..4_u8,
    );
    (document, prop::collection::vec(slip, 0..3)).prop_map(|(document, slips)| {
        let mut bytes = document.into_bytes();
        for (at, byte, kind) in slips {
            let at = at.index(bytes.len().max(1));
            match kind {
                0 => bytes.truncate(at),
                1 => bytes.insert(at.min(bytes.len()), byte),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => {}
            }
        }
        bytes
    })
}

/// Whether a body is a JSON document: `None` where serde_json, which knows no infinities and stops at a depth, cannot tell.
fn is_json(body: &[u8]) -> Option<bool> {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(_) => Some(true),
        Err(error) => {
            let text = error.to_string();
            let beyond = text.starts_with("number out of range") || text.starts_with("recursion limit");
            let words =
                ["NaN", "Infinity"].iter().any(|word| body.windows(word.len()).any(|window| window == word.as_bytes()));
            (!beyond && !words).then_some(false)
        }
    }
}

fn is_document(items: &[Item]) -> bool {
    !items.iter().any(|item| {
        matches!(item, Item::Rejected { rest, .. } if matches!(rest.reason, Reason::EmptyBody | Reason::BadEncoding | Reason::BadJson))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn narrow_objects_are_judged_as_specified(members in members(), blanks in blanks(), first in members()) {
        let body = write(&members, &blanks);
        let found = match &decode_items(&narrow(), &[write(&first, &[]), body.clone()])[..] {
            [_, Item::Row { device, metric, time, value, quality, .. }] => Ok((device.clone(), metric.clone(), *time, value.clone(), *quality)),
            [_, Item::Rejected { rest, .. }] => Err(rest.reason),
            other => panic!("{other:?}"),
        };
        prop_assert_eq!(found, expected(&members), "{}", body);
    }

    #[test]
    fn strictness_is_that_of_json(body in mutated()) {
        for payload in [narrow(), wide()] {
            let items = decode_items(&payload, &[&body]);
            if let Some(sound) = is_json(&body) {
                prop_assert_eq!(is_document(&items), sound, "{:?}: {:?}", String::from_utf8_lossy(&body), items);
            }
        }
    }

    #[test]
    fn i4_bodies_are_decoded_alike_however_the_batch_is_cut(bodies in prop::collection::vec(mutated(), 0..12), at: prop::sample::Index) {
        let cut = at.index(bodies.len() + 1);
        for payload in [narrow(), wide()] {
            let whole = decode_items(&payload, &bodies);
            let mut parts = decode_items(&payload, &bodies[..cut]);
            let mut second = decode_items(&payload, &bodies[cut..]);
            for item in &mut second {
                match item {
                    Item::Row { envelope, .. } => *envelope += cut as u32,
                    Item::Rejected { rest, .. } => rest.envelope += cut as u32,
                }
            }
            parts.append(&mut second);
            prop_assert_eq!(parts, whole);
        }
    }

    #[test]
    fn what_was_decoded_before_changes_nothing(before in prop::collection::vec(mutated(), 0..12), bodies in prop::collection::vec(mutated(), 0..6)) {
        for payload in [narrow(), wide()] {
            let mut used = Decoder::new(&payload, &BOUNDS);
            decode(&mut used, &before, &[]);
            let again = decode(&mut used, &bodies, &[]);
            let alone = decode(&mut Decoder::new(&payload, &BOUNDS), &bodies, &[]);
            prop_assert_eq!(format!("{again:?}"), format!("{alone:?}"));
        }
    }

    #[test]
    fn any_bytes_and_offsets_end_in_counted_rows(bodies: Vec<u8>, offsets in prop::collection::vec(-3..300_i64, 0..9)) {
        for payload in [narrow(), wide()] {
            let mut decoded = Decoded::default();
            let envelopes = Envelopes { bodies: &bodies, offsets: &offsets, properties: &[], skip: &[] };
            Decoder::new(&payload, &BOUNDS).decode(&envelopes, &vocabulary(), &mut decoded);
            items(&decoded, &vocabulary());
        }
    }
}

#[test]
fn keys_beyond_what_is_kept_change_nothing() {
    let body = |from: usize| {
        let members: String = (from..from + 700).map(|m| format!("\"k{m}\":{m},")).collect();
        format!("{{{members}\"dev\":\"d\",\"ts\":\"{TIME}\"}}")
    };
    let bodies = [body(0), body(350), body(0)];
    let mut decoder = Decoder::new(&wide(), &BOUNDS);
    let first = decode(&mut decoder, &bodies, &[]);
    assert_eq!((first.len(), first.fresh.len(), first.rejected.len()), (2_100, 1_051, 0));
    for _ in 0..3 {
        assert_eq!(decode(&mut decoder, &bodies, &[]), first);
    }
    let names: Vec<&str> = first.metric[700..1400].iter().map(|id| &*first.fresh[(id - FRESH) as usize]).collect();
    assert!(names.iter().zip(350..).all(|(name, m)| **name == format!("k{m}")));
}
