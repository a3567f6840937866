//! Objects to readings: narrow and wide ones, their names, times and failures.

use super::*;

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
fn a_property_is_a_time_in_the_dictionarys_format_written_as_text() {
    let object = r#"{"deviceId":"pot-001","metric":"m","value":1}"#;
    for (format, text, us) in [
        (TimeFormat::Rfc3339, TIME, Some(TIME_US)),
        (TimeFormat::Rfc3339, "1795256130", None),
        (TimeFormat::EpochS, "1795256130.1234567", Some(1_795_256_130_123_456)),
        (TimeFormat::EpochMs, "1795256130123", Some(TIME_US)),
        (TimeFormat::EpochMs, "1.795256130123e12", Some(TIME_US)),
        (TimeFormat::EpochUs, "-1.5", Some(-2)),
        (TimeFormat::EpochS, TIME, None),
        (TimeFormat::EpochS, "", None),
        (TimeFormat::EpochS, "-", None),
        (TimeFormat::EpochS, "+1", None),
        (TimeFormat::EpochS, "01", None),
        (TimeFormat::EpochS, "1.", None),
        (TimeFormat::EpochS, ".5", None),
        (TimeFormat::EpochS, "1e", None),
        (TimeFormat::EpochS, " 1", None),
        (TimeFormat::EpochS, "1\n", None),
        (TimeFormat::EpochS, "1,", None),
        (TimeFormat::EpochS, "\"1\"", None),
        (TimeFormat::EpochS, "NaN", None),
        (TimeFormat::EpochS, "\u{661}", None),
    ] {
        let mut decoder = Decoder::new(&Payload { time_format: format, ..narrow() }, &BOUNDS);
        // As an object, in an array and on a line.
        let bodies = [object.to_owned(), format!("[{object}]"), format!("{object}\n{object}")];
        let decoded = decode(&mut decoder, &bodies, &[None, Some(text), None, Some(text), None, Some(text)]);
        assert_eq!(decoded.event_time, us.map_or(vec![], |us| vec![us; 4]), "{text}");
        assert!(decoded.rejected.iter().all(|each| each.reason == Reason::BadTime), "{text}");
    }
}

#[test]
fn wide_objects_are_read_alike_alone_in_arrays_and_on_lines() {
    let row =
        |device: &str| format!(r#"{{"dev":"{device}","a":1,"seq":2,"ts":"{TIME}","volts":2,"none":null,"bad":[]}}"#);
    let (one, two) = (row("pot-001"), row("new"));
    let bodies = [one.clone(), format!("[{one},{two}]"), format!("{one}\r\n[{two}]\n"), two.clone()];
    let decoded = decode(&mut Decoder::new(&wide(), &BOUNDS), &bodies, &[]);
    assert_eq!(
        (&*decoded.envelope, &*decoded.item),
        (&[0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3][..], &[0, 1, 0, 1, 3, 4, 0, 1, 3, 4, 0, 1][..])
    );
    let known = &decoded.device[..2];
    let new = &decoded.device[10..];
    assert_eq!(decoded.device, [known, known, new, known, new, new].concat());
    assert_eq!(decoded.value, [1.0, 2.0].repeat(6));
    let rejected: Vec<_> = decoded.rejected.iter().map(|each| (each.envelope, each.item, each.reason)).collect();
    assert_eq!(
        rejected,
        [(0, 2), (1, 2), (1, 5), (2, 2), (2, 5), (3, 2)].map(|(envelope, item)| (envelope, item, Reason::WrongType))
    );
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
