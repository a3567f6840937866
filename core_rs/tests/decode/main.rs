//! The payload decoder from outside: every reason and its place in the order, strictness, and what must not matter.

mod envelopes;
mod generate;
mod lines;
mod model;
mod properties;
mod readings;

use alumicatalyst_core::decode::{Decoded, Decoder, Envelopes, FRESH, Reason, Rejection, Vocabulary, text_of};
use alumicatalyst_core::dictionary::{Bounds, Payload, TimeFormat};
use alumicatalyst_core::names::Names;

pub(crate) const BOUNDS: Bounds = Bounds { series: 100, body_bytes: 1 << 20, readings_per_envelope: 1_000, depth: 8 };
pub(crate) const TIME: &str = "2026-11-21T10:15:30.123Z";
pub(crate) const TIME_US: i64 = 1_795_256_130_123_000;
pub(crate) const GOOD: &str =
    r#"{"deviceId":"pot-001","metric":"cell_voltage","ts":"2026-11-21T10:15:30.123Z","value":4.213,"q":193}"#;

pub(crate) fn strings<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

pub(crate) fn narrow() -> Payload {
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

pub(crate) fn wide() -> Payload {
    Payload { metric: None, value: None, ignore: strings(["seq", "firmware"]), ..narrow() }
}

pub(crate) fn vocabulary() -> Vocabulary {
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
pub(crate) enum Item {
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

pub(crate) fn name(id: u32, names: &Names, decoded: &Decoded) -> String {
    id.checked_sub(FRESH)
        .map_or_else(|| names.name(id).to_owned(), |index| format!("fresh {}", decoded.fresh[index as usize]))
}

pub(crate) fn items(decoded: &Decoded, vocabulary: &Vocabulary) -> Vec<Item> {
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

pub(crate) fn decode(decoder: &mut Decoder, bodies: &[impl AsRef<[u8]>], properties: &[Option<&str>]) -> Decoded {
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

pub(crate) fn decode_items(payload: &Payload, bodies: &[impl AsRef<[u8]>]) -> Vec<Item> {
    decode_items_with(payload, bodies, &[])
}

pub(crate) fn decode_items_with(
    payload: &Payload,
    bodies: &[impl AsRef<[u8]>],
    properties: &[Option<&str>],
) -> Vec<Item> {
    items(&decode(&mut Decoder::new(payload, &BOUNDS), bodies, properties), &vocabulary())
}

/// The reason for which the only item of a body is rejected.
pub(crate) fn reason(payload: &Payload, body: impl AsRef<[u8]>) -> (Reason, i32) {
    let shown = String::from_utf8_lossy(body.as_ref()).chars().take(200).collect::<String>();
    let decoded = decode(&mut Decoder::new(payload, &BOUNDS), &[body], &[]);
    assert_eq!((decoded.len(), decoded.rejected.len()), (0, 1), "{shown}: {decoded:?}");
    (decoded.rejected[0].reason, decoded.rejected[0].item)
}

pub(crate) fn object(members: &[(&str, &str)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
