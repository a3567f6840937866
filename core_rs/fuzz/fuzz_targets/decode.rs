//! Any bytes: no panic, the strictness of serde_json, and the same rows whether bodies come together or alone, and
//! whether a body's lines do.
//!
//! The first byte chooses the mapping (`w`: wide, `e`: epochs, others: narrow); bodies are separated by the byte 0x1e, up to eight of them.
#![no_main]

use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, FRESH, Reason, Vocabulary, text_of};
use alumicatalyst_core::dictionary::{Bounds, Payload, TimeFormat};
use std::fmt::Write;

const READINGS: usize = 50;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else { return };
    let payload = payload(*kind);
    let bodies: Vec<&[u8]> = rest.splitn(8, |byte| *byte == 0x1e).collect();
    let vocabulary = vocabulary();
    let together = decode(&mut decoder(&payload), &vocabulary, &bodies);
    let mut reused = decoder(&payload);
    for (envelope, body) in bodies.iter().enumerate() {
        let alone = decode(&mut reused, &vocabulary, &[body]);
        assert_eq!(spell(&together, envelope as u32), spell(&alone, 0), "envelope {envelope}");
        let lines: Vec<&[u8]> =
            body.split(|byte| *byte == b'\n').map(trimmed).filter(|line| !line.is_empty()).collect();
        let of_lines: Vec<Decoded> = lines.iter().map(|line| decode(&mut reused, &vocabulary, &[line])).collect();
        if lines.len() > 1 && matches!(lines[0][0], b'{' | b'[') && !refused(&of_lines[0]) {
            judge_lines(body, &alone, &of_lines);
        } else {
            judge(body, &alone);
        }
    }
});

fn decode(decoder: &mut Decoder, vocabulary: &Vocabulary, bodies: &[&[u8]]) -> Decoded {
    let mut offsets = vec![0];
    for body in bodies {
        offsets.push(offsets[offsets.len() - 1] + body.len() as i64);
    }
    let envelopes = Envelopes { bodies: &bodies.concat(), offsets: &offsets, properties: &[], skip: &[] };
    let mut decoded = Decoded::default();
    decoder.decode(&envelopes, vocabulary, &mut decoded);
    decoded
}

/// The rows and rejections of one envelope, names spelled out.
fn spell(decoded: &Decoded, envelope: u32) -> String {
    let name =
        |id: u32| id.checked_sub(FRESH).map_or_else(|| id.to_string(), |at| decoded.fresh[at as usize].to_string());
    let mut out = String::new();
    for row in (0..decoded.len()).filter(|row| decoded.envelope[*row] == envelope) {
        let value = decoded.value[row];
        assert!(value.is_finite() || text_of(value).is_some());
        let names = (name(decoded.device[row]), name(decoded.metric[row]), text_of(value).map(name));
        let rest =
            (decoded.item[row], decoded.event_time[row], decoded.quality[row], decoded.start[row], decoded.end[row]);
        writeln!(out, "{names:?} {value:?} {rest:?}").unwrap();
    }
    for rejection in decoded.rejected.iter().filter(|rejection| rejection.envelope == envelope) {
        let names = (rejection.device.map(name), rejection.metric.map(name), rejection.event_time);
        let rest = (rejection.item, rejection.reason, rejection.at, rejection.start, rejection.end, rejection.detail);
        writeln!(out, "{names:?} {rest:?}").unwrap();
    }
    out
}

fn trimmed(line: &[u8]) -> &[u8] {
    let kept = |byte: &u8| !b" \t\r".contains(byte);
    let first = line.iter().position(kept).unwrap_or(line.len());
    &line[first..line.iter().rposition(kept).map_or(first, |last| last + 1)]
}

/// Whether the body is no document.
fn refused(decoded: &Decoded) -> bool {
    decoded.rejected.first().is_some_and(|rejection| {
        rejection.item < 0 && matches!(rejection.reason, Reason::EmptyBody | Reason::BadEncoding | Reason::BadJson)
    })
}

/// Holds a body of lines against what its lines give alone, unless one of its bounds or its encoding rejects it whole.
fn judge_lines(body: &[u8], together: &Decoded, lines: &[Decoded]) {
    let rejected = |decoded: &[Decoded]| {
        decoded.iter().flat_map(|each| &each.rejected).map(|each| each.reason).collect::<Vec<_>>()
    };
    let values = |decoded: &[Decoded]| {
        decoded
            .iter()
            .flat_map(|each| &each.value)
            .filter(|value| value.is_finite())
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    let items: usize = lines.iter().map(|line| line.len() + line.rejected.len()).sum();
    let whole = together.rejected.first().filter(|rejection| rejection.item < 0).map(|rejection| rejection.reason);
    match whole {
        Some(Reason::TooLarge) => {}
        Some(Reason::BadEncoding) => assert!(std::str::from_utf8(body).is_err()),
        // A line that has too many readings by itself stands here as one item.
        Some(Reason::TooManyReadings) => {
            assert!(items > READINGS || rejected(lines).contains(&Reason::TooManyReadings))
        }
        Some(other) => panic!("{other:?} of a body of lines"),
        None => {
            assert_eq!(
                (together.len() + together.rejected.len(), rejected(&[together.clone()])),
                (items, rejected(lines))
            );
            assert_eq!(values(&[together.clone()]), values(lines));
        }
    }
    places(body, together);
}

/// Holds one document against serde_json, which knows no infinities and stops at a depth of its own.
fn judge(body: &[u8], decoded: &Decoded) {
    let refused = refused(decoded);
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(_) => assert!(!refused, "refused what is JSON"),
        Err(error) => {
            let text = error.to_string();
            let words =
                ["NaN", "Infinity"].iter().any(|word| body.windows(word.len()).any(|part| part == word.as_bytes()));
            let beyond = text.starts_with("number out of range") || text.starts_with("recursion limit");
            assert!(refused || words || beyond, "took what is no JSON: {text}");
        }
    }
    assert!(!refused || decoded.len() + decoded.rejected.len() == 1);
    places(body, decoded);
}

fn places(body: &[u8], decoded: &Decoded) {
    for rejection in &decoded.rejected {
        assert!(rejection.start <= rejection.at && rejection.at as usize <= body.len());
        assert!(rejection.start <= rejection.end && rejection.end as usize <= body.len());
    }
}

fn vocabulary() -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    vocabulary.devices.insert("pot-001");
    vocabulary.metrics.insert("cell_voltage");
    vocabulary.texts.insert("melting");
    vocabulary
}

fn payload(kind: u8) -> Payload {
    let wide = kind == b'w';
    Payload {
        device: vec!["deviceId".into(), "dev".into()],
        time: vec!["ts".into()],
        time_format: if kind == b'e' { TimeFormat::EpochS } else { TimeFormat::Rfc3339 },
        metric: (!wide).then(|| "metric".into()),
        value: (!wide).then(|| "value".into()),
        quality: Some("q".into()),
        rename: [("volts".to_owned(), "cell_voltage".to_owned())].into(),
        ignore: vec!["seq".into()],
    }
}

fn decoder(payload: &Payload) -> Decoder {
    let readings_per_envelope = READINGS as u32;
    Decoder::new(payload, &Bounds { series: 100, body_bytes: 1 << 16, readings_per_envelope, depth: 6 })
}
