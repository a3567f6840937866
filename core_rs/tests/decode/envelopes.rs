//! Bodies: what rejects them whole, their bounds, and that none reaches into another.

use super::*;

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
fn the_bound_on_readings_counts_items() {
    let bounds = Bounds { readings_per_envelope: 3, ..BOUNDS };
    let row = |members: usize| {
        let members = (0..members).map(|m| format!(",\"m{m}\":1")).collect::<Vec<_>>().concat();
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
        format!("[{}]", "1,".repeat(size / 2).get(..size - 3).unwrap()),
        format!("{{\"value\":{}}}", "9".repeat(size - 10)),
        format!("{{\"deviceId\":\"{}\"}}", "\\u0041".repeat(size / 6 - 10)),
        format!("{{{}}}", (0..60_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")),
    ];
    for payload in [narrow(), wide()] {
        for format in [TimeFormat::Rfc3339, TimeFormat::EpochS] {
            let mut decoder =
                Decoder::new(&Payload { time_format: format, ..payload.clone() }, &Bounds { depth: 512, ..BOUNDS });
            assert_eq!(decode(&mut decoder, &bodies, &[]).rejected.len(), bodies.len());
        }
    }
    // Short bodies, each of which would go on through all that follow it.
    let open = vec!["[1,"; 300_000];
    assert_eq!(decode(&mut Decoder::new(&narrow(), &BOUNDS), &open, &[]).rejected.len(), open.len());
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn keys_beyond_what_is_kept_change_nothing() {
    let body = |from: usize| {
        let members = (from..from + 700).map(|m| format!("\"k{m}\":{m},")).collect::<Vec<_>>().concat();
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
