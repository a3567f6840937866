//! Objects and documents made up for the property tests, most of them nearly sound.

use super::TIME;
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Literal {
    pub json: &'static str,
    pub text: Option<&'static str>,
    pub number: Option<f64>,
}

pub(crate) const LONGEST: &str = concat!(
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp",
    "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp"
);

pub(crate) fn literal() -> impl Strategy<Value = Literal> {
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
pub(crate) fn members() -> impl Strategy<Value = Vec<(String, Literal)>> {
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
        "volts",
        "cell_voltage",
        "seq",
        "a key of more than sixteen bytes",
        "",
    ]);
    (prop::sample::subsequence(base, 2..=4), prop::collection::vec((key, literal()), 0..4))
        .prop_map(|(base, more)| {
            base.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value)).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

pub(crate) fn write(members: &[(String, Literal)], blanks: &[&str]) -> String {
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

pub(crate) fn blanks() -> impl Strategy<Value = Vec<&'static str>> {
    prop_oneof![Just(vec![]), prop::collection::vec(prop::sample::select(vec!["", " ", "\n", "\t\r\n  "]), 1..9)]
}

/// A document of some kind, and what a few slips make of it.
pub(crate) fn mutated() -> impl Strategy<Value = Vec<u8>> {
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

/// A body: one document of some kind, or several of them on lines.
pub(crate) fn body() -> impl Strategy<Value = Vec<u8>> {
    let sound = || members().prop_map(|members| write(&members, &[]).into_bytes());
    let line = prop_oneof![sound(), sound().prop_map(|object| [b"[", &*object, b"]"].concat()), mutated()];
    let end = prop::sample::select(vec!["\n", "\n", "\r\n", " \t\n\n", "\n \r\n\t"]);
    let lines = prop::collection::vec((line, end), 1..6).prop_map(|lines| {
        let mut body = lines.iter().flat_map(|(line, end)| [line, end.as_bytes()]).collect::<Vec<_>>().concat();
        if lines.len() % 2 == 0 {
            body.truncate(body.trim_ascii_end().len());
        }
        body
    });
    prop_oneof![mutated(), lines]
}
