//! Bodies of lines: which bodies are, that a bad line stands alone, and that none reaches into another.

use super::model::{lines_of, reasons};
use super::*;

/// Deeper than the bound allows.
const DEEP: &str = r#"{"x":[[[[[[[[1]]]]]]]]}"#;

/// What becomes of a body in which `G` stands for a sound object and `D` for a deep one: `row`, or reason and bytes.
fn found(body: &str) -> Vec<String> {
    let body = body.replace('G', GOOD).replace('D', DEEP);
    let items = decode_items(&narrow(), &[&body]);
    let spell = |(at, item): (usize, &Item)| match item {
        Item::Row { item, span, .. } => {
            assert_eq!((*item as usize, &body[span.0 as usize..span.1 as usize]), (at, GOOD), "{body}");
            "row".to_owned()
        }
        Item::Rejected { rest, .. } => {
            assert!(rest.item == at as i32 || (rest.item == -1 && items.len() == 1), "{body}: {rest:?}");
            let whole = if rest.item == -1 { "whole " } else { "" };
            let span = &body[rest.start as usize..rest.end as usize];
            let span = span.replace(GOOD, "G").replace(DEEP, "D");
            format!("{whole}{} {span}", rest.reason.as_str())
        }
    };
    items.iter().enumerate().map(spell).collect()
}

#[test]
fn every_line_that_is_not_blank_is_a_document() {
    for (body, rows) in [
        ("G\nG", 2),
        ("G\nG\n", 2),
        ("G\r\nG\r\n", 2),
        ("\n\r\n \tG\r \n\n \t\r\n\t G \t\n\n\n", 2),
        ("[G,G]\n[ G\t]\n[]\nG\n[\r]", 4),
        ("[]\nG", 1),
        ("[]\n[]\n\n[]", 0),
        ("[]\r\n[]", 0),
    ] {
        assert_eq!(found(body), vec!["row"; rows], "{body:?}");
    }
    let escaped = GOOD.replace("pot-001", "pot\\n001");
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[format!("{escaped}\n{escaped}\n{GOOD}")], &[]);
    assert_eq!((decoded.rejected.len(), &*decoded.device), (0, &[FRESH, FRESH, 0][..]));
    assert_eq!(decoded.fresh, ["pot\n001".into()]);
}

#[test]
fn a_bad_line_is_one_item_and_the_others_stand() {
    for (body, expected) in [
        ("{}\nG", vec!["missing_device {}", "row"]),
        ("G\n{}", vec!["row", "missing_device {}"]),
        ("G\n{\nG", vec!["row", "bad_json {", "row"]),
        ("G\n[1,G\n[G,1]\nG", vec!["row", "bad_json [1,G", "row", "wrong_type 1", "row"]),
        ("G\nG,\nG", vec!["row", "bad_json G,", "row"]),
        ("G\n \tGG \r\nG G", vec!["row", "bad_json GG", "bad_json G G"]),
        ("G\nx\n", vec!["row", "bad_json x"]),
        ("G\n\u{c}\nG\u{c}\n", vec!["row", "bad_json \u{c}", "bad_json G\u{c}"]),
        ("G\n\u{feff}G\n\0", vec!["row", "bad_json \u{feff}G", "bad_json \0"]),
        (
            "G\n5\n\"a\"\nnull\nNaN",
            vec!["row", "wrong_type 5", "wrong_type \"a\"", "wrong_type null", "wrong_type NaN"],
        ),
        ("G\n\"a\n01", vec!["row", "bad_json \"a", "bad_json 01"]),
        ("D\nG", vec!["too_deep D", "row"]),
        (" D \r\nD", vec!["too_deep D", "too_deep D"]),
        ("G\n[D]\nG", vec!["row", "too_deep [D]", "row"]),
        ("G\n[[[[[[[[[\nG", vec!["row", "bad_json [[[[[[[[[", "row"]),
        ("G\n[[[[[[[[[1]]]]]]]]] x", vec!["row", "bad_json [[[[[[[[[1]]]]]]]]] x"]),
    ] {
        assert_eq!(found(body), expected, "{body:?}");
    }
}

#[test]
fn a_body_whose_first_line_is_no_document_is_one_document_or_none() {
    for (body, expected) in [
        ("[G\n,G]\n", vec!["row", "row"]),
        ("\n[\nG\n,\n5\n]", vec!["row", "wrong_type 5"]),
        ("{\n}", vec!["missing_device {\n}"]),
        ("{\n}\nG", vec!["whole bad_json {\n}\nG"]),
        ("[G\n]\nG\n", vec!["whole bad_json [G\n]\nG\n"]),
        ("[G\nG", vec!["whole bad_json [G\nG"]),
        ("GG\nG", vec!["whole bad_json GG\nG"]),
        ("G G\nG", vec!["whole bad_json G G\nG"]),
        ("G,\nG", vec!["whole bad_json G,\nG"]),
        ("G\rG", vec!["whole bad_json G\rG"]),
        ("G\r G\nG", vec!["whole bad_json G\r G\nG"]),
        ("x\nG", vec!["whole bad_json x\nG"]),
        ("5\nG", vec!["whole bad_json 5\nG"]),
        ("\u{feff}G\nG", vec!["whole bad_json \u{feff}G\nG"]),
        ("D", vec!["whole too_deep D"]),
        ("\nD\n \n", vec!["whole too_deep \nD\n \n"]),
        ("{\n\"x\":D}\nG", vec!["whole bad_json {\n\"x\":D}\nG"]),
        ("[[[[[[[[[\nG", vec!["whole bad_json [[[[[[[[[\nG"]),
    ] {
        assert_eq!(found(body), expected, "{body:?}");
    }
}

#[test]
fn one_line_does_not_borrow_from_the_next() {
    for cut in 1..GOOD.len() {
        let (left, right) = GOOD.split_at(cut);
        for gap in ["\n", "\r\n", " \n\n\t"] {
            let body = format!("{GOOD}\n{left}{gap}{right}\n");
            let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[&body], &[]);
            assert_eq!((decoded.len(), decoded.rejected.len()), (1, 2), "{body}");
            assert_eq!((&*decoded.item, decoded.rejected[0].item, decoded.rejected[1].item), (&[0][..], 1, 2));
        }
        // Nor does a body's last line from the next body.
        let bodies = [format!("{GOOD}\n{left}"), right.to_owned()];
        let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &bodies, &[]);
        assert_eq!((decoded.len(), decoded.rejected.len()), (1, 2), "{bodies:?}");
    }
    for body in ["G\n[\n]\nG", "G\n[G,\nG]\nG", "G\n{\"a\":\n1}\nG", "G\n[G\n,G]\nG"] {
        let found = found(body);
        assert_eq!((found.len(), found.iter().filter(|each| *each == "row").count()), (4, 2), "{body}: {found:?}");
    }
}

#[test]
fn a_bad_line_leaves_no_rows_and_no_fresh_names() {
    let fresh = GOOD.replace("pot-001", "another").replace("cell_voltage", "other");
    let body = format!("{GOOD}\n[{fresh},1,{fresh}\n{fresh}\n[{fresh},{{\"a\":0]}}]\n{GOOD}");
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[body], &[]);
    assert_eq!(decoded.fresh, ["another".into(), "other".into()]);
    assert_eq!((&*decoded.item, &*decoded.device), (&[0, 2, 4][..], &[0, FRESH, 0][..]));
    assert_eq!(decoded.rejected.iter().map(|each| each.item).collect::<Vec<_>>(), [1, 3]);

    let row = r#"{"dev":"another","ts":"2026-11-21T10:15:30Z","left":1,"right":2"#;
    let bad = row.replace("left", "middle").replace("2026", "year");
    let body = format!("{row}}}\n{row}\n{bad}}}\n{bad}\n{}}}", row.replace("left", "middle"));
    let decoded = decode(&mut Decoder::new(&wide(), &BOUNDS), &[body], &[]);
    assert_eq!(decoded.fresh, ["another".into(), "left".into(), "right".into(), "middle".into()]);
    assert_eq!(decoded.metric, [FRESH | 1, FRESH | 2, FRESH | 3, FRESH | 2]);
    assert_eq!(decoded.item, [0, 1, 5, 6]);
    let rejected: Vec<_> = decoded.rejected.iter().map(|each| (each.item, each.reason)).collect();
    assert_eq!(rejected, [(2, Reason::BadJson), (3, Reason::BadTime), (4, Reason::BadJson)]);
}

#[test]
fn a_bad_line_names_its_byte_of_the_envelope() {
    for (line, at, reason, detail) in [
        ("[1,2,}", 5, Reason::BadJson, "unexpected character"),
        ("{\"a\":", 5, Reason::BadJson, "the document ends early"),
        ("[] 7", 3, Reason::BadJson, "more after the document's end"),
        ("[\"\\ud800\"]", 1, Reason::BadJson, "half of a surrogate pair in the string"),
        (DEEP, 12, Reason::TooDeep, "nested deeper than bounds.depth"),
        ("true", 0, Reason::WrongType, "neither an object nor an array"),
    ] {
        let body = format!("\n{GOOD}\r\n \t{line} \r\n{GOOD}");
        let start = GOOD.len() + 5;
        let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &[GOOD, &body], &[]);
        let expected = Rejection {
            envelope: 1,
            item: 1,
            reason,
            at: (start + at) as u32,
            start: start as u32,
            end: (start + line.len()) as u32,
            device: None,
            metric: None,
            event_time: None,
            detail,
        };
        assert_eq!((decoded.len(), &*decoded.rejected), (3, &[expected][..]), "{line}");
    }
}

#[test]
fn bytes_that_are_no_utf8_reject_all_lines() {
    let euro = "\u{20ac}".as_bytes();
    let lines = |last: &[u8]| [GOOD.as_bytes(), b"\n", last].concat();
    for body in [
        lines(b"{\"a\":\"\xff\"}"),
        lines(b"\xff"),
        lines(&euro[..2]),
        [b"{}\n\xff\n", GOOD.as_bytes()].concat(),
        [b"[\"", euro, b"\"]\n{\"", &euro[..1], b"\n", &euro[1..], b"\":1}\n{}"].concat(),
        // The worse of two reasons comes first.
        [format!("[{}]\n", ["1"; 1_001].join(",")).as_bytes(), b"\xff"].concat(),
    ] {
        assert_eq!(reason(&narrow(), &body), (Reason::BadEncoding, -1), "{}", String::from_utf8_lossy(&body));
    }
    // Both together are UTF-8.
    let bodies = [lines(&euro[..1]), [&euro[1..], b"\n", GOOD.as_bytes()].concat()];
    let decoded = decode(&mut Decoder::new(&narrow(), &BOUNDS), &bodies, &[]);
    assert!(decoded.is_empty());
    assert_eq!(decoded.rejected.iter().map(|each| each.reason).collect::<Vec<_>>(), [Reason::BadEncoding; 2]);
}

#[test]
fn the_bound_on_readings_counts_the_items_of_all_lines() {
    let bounds = Bounds { readings_per_envelope: 3, ..BOUNDS };
    for (body, whole) in [
        ("G\nG\nG\n\n", None),
        ("G\nG\nG\nG", Some(Reason::TooManyReadings)),
        ("[G,G]\n[]\n[G]", None),
        ("[G,G]\n[G,G]", Some(Reason::TooManyReadings)),
        ("G\nx\n{", None),
        ("G\nx\n{\n5", Some(Reason::TooManyReadings)),
        ("G\nG\nG\nx", Some(Reason::TooManyReadings)),
        ("G\n[G,G,G,G\nG", None),
        ("G\n[G,G,G,D]\nG", None),
        ("G\n[G,G,G,G,]\nx\nx", Some(Reason::TooManyReadings)),
        ("[G,G,G,G]\nG", Some(Reason::TooManyReadings)),
        ("[G,G,G,G]\nx", Some(Reason::TooManyReadings)),
        ("[G,G,G,D]\nG", None),
        ("[G,G,G,G,\nG", Some(Reason::BadJson)),
        ("[G,G,G,G\n]\n", Some(Reason::TooManyReadings)),
        ("[G,G,G,G]\n", Some(Reason::TooManyReadings)),
    ] {
        let body = body.replace('G', GOOD).replace('D', DEEP);
        let decoded = decode(&mut Decoder::new(&narrow(), &bounds), &["{}", &body], &[]);
        let found = decoded.rejected.iter().find(|each| (each.envelope, each.item) == (1, -1));
        assert_eq!(found.map(|each| each.reason), whole, "{body}");
        assert!(whole.is_none() || (decoded.is_empty() && decoded.rejected.len() == 2), "{body}: {decoded:?}");
        assert!(found.is_none_or(|each| (each.start, each.end) == (0, body.len() as u32)), "{body}");
    }
    let row = |members: usize| {
        let members = (0..members).map(|m| format!(",\"m{m}\":1")).collect::<Vec<_>>().concat();
        format!("{{\"dev\":\"d\",\"ts\":\"{TIME}\"{members}}}")
    };
    let sound = decode(&mut Decoder::new(&wide(), &bounds), &[format!("{}\n{}", row(1), row(2))], &[]);
    assert_eq!((sound.len(), sound.rejected.len()), (3, 0));
    let many = decode(&mut Decoder::new(&wide(), &bounds), &[format!("{}\n{}", row(2), row(2))], &[]);
    assert_eq!((many.len(), many.fresh.len(), many.rejected[0].reason), (0, 0, Reason::TooManyReadings));
}

#[test]
fn the_bounds_of_a_body_hold_for_all_its_lines() {
    let body = format!("{GOOD}\n{GOOD}");
    for (spare, whole) in [(0, false), (-1, true)] {
        let bounds = Bounds { body_bytes: (body.len() as i32 + spare) as u32, ..BOUNDS };
        let decoded = decode(&mut Decoder::new(&narrow(), &bounds), &[&body], &[]);
        assert_eq!(decoded.rejected.first().map(|each| each.reason), whole.then_some(Reason::TooLarge));
    }
    for (depth, expected) in [(0, vec![Some(Reason::TooDeep); 3]), (1, vec![None, Some(Reason::TooDeep), None])] {
        let bounds = Bounds { depth, ..BOUNDS };
        let decoded = decode(&mut Decoder::new(&narrow(), &bounds), &[format!("{GOOD}\n[{GOOD}]\n{GOOD}")], &[]);
        let reasons: Vec<_> = items(&decoded, &vocabulary())
            .iter()
            .map(|item| if let Item::Rejected { rest, .. } = item { Some(rest.reason) } else { None })
            .collect();
        assert_eq!(reasons, expected, "{depth}");
    }
}

#[test]
fn properties_serve_every_line() {
    let object = r#"{"deviceId":"pot-001","metric":"status","value":1,"ts":null}"#;
    let body = format!("{object}\n{{\n[{object},{object}]\n{GOOD}");
    let mut decoder = Decoder::new(&narrow(), &BOUNDS);
    let properties = [Some("p"), Some(TIME), None, None, Some(""), Some("yesterday")];
    let decoded = decode(&mut decoder, &[&body; 3], &properties);
    assert_eq!((&*decoded.envelope, &*decoded.item), (&[0, 0, 0, 0, 1][..], &[0, 2, 3, 4, 4][..]));
    assert_eq!((&*decoded.device, &*decoded.event_time), (&[FRESH, FRESH, FRESH, FRESH, 0][..], &[TIME_US; 5][..]));
    let of = |envelope| {
        let of = decoded.rejected.iter().filter(move |each| each.envelope == envelope);
        of.map(|each| (each.item, each.reason)).collect::<Vec<_>>()
    };
    assert_eq!(of(0), [(1, Reason::BadJson)]);
    assert_eq!(of(1), [0, 1, 2, 3].map(|item| (item, if item == 1 { Reason::BadJson } else { Reason::MissingTime })));
    let of_device = |item| (item, if item == 1 { Reason::BadJson } else { Reason::MissingDevice });
    assert_eq!(of(2), [0, 1, 2, 3, 4].map(of_device));

    // The device's name stays when a line that met it first is taken back.
    for first in [DEEP.to_owned(), format!("[{object},[[[[[[[[1]]]]]]]]]")] {
        let bodies = [format!("{first}\n{object}\n[{object}\n{object}"), object.to_owned()];
        let decoded = decode(&mut decoder, &bodies, &[Some("p"), Some(TIME), Some("r"), Some(TIME)]);
        assert_eq!((&*decoded.item, &*decoded.device), (&[1, 3, 0][..], &[FRESH, FRESH, FRESH | 1][..]));
        assert_eq!(decoded.fresh, ["p".into(), "r".into()]);
    }
}

#[test]
fn a_mebibyte_of_lines_is_quick() {
    let start = std::time::Instant::now();
    let size = 1 << 20;
    let after = |line: &str| format!("[]\n{}", line.repeat(size / line.len() - 1));
    let open = "[\n".repeat(500) + &"1,\n".repeat(size / 3 - 400);
    let bodies = [
        after("x\n"),
        after("[1,\n"),
        after("{\"a\":\n"),
        after("{}\n"),
        after("[[[[[[[[[[]\n"),
        after(" \n"),
        after("\"\n"),
    ];
    for payload in [narrow(), wide()] {
        for most in [1 << 20, 1_000] {
            let bounds = Bounds { depth: 512, readings_per_envelope: most, ..BOUNDS };
            let mut decoder = Decoder::new(&payload, &bounds);
            decode(&mut decoder, &bodies, &[]);
            decode(&mut decoder, &[format!("[]\n{open}"), open.clone()], &[]);
        }
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn the_model_tells_lines_from_documents() {
    for (body, lines) in [
        (&b"{}\n[] \r\n\n x"[..], Some(vec![(0, &b"{}"[..]), (3, b"[]"), (10, b"x")])),
        (b"{}\n", None),
        (b"[\n]\n{}", None),
        (b"5\n{}", None),
        (b"\n", None),
    ] {
        assert_eq!(lines_of(body), lines, "{body:?}");
    }
    assert_eq!(reasons(&decode_items(&narrow(), &["[1]\nx"])), [Reason::WrongType, Reason::BadJson]);
}
