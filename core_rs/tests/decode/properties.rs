//! What holds for any input: the rank of failures, the strictness of JSON, and independence of batches and history.

use super::generate::{LONGEST, blanks, body, members, mutated, write};
use super::model::{expected_lines, expected_narrow, expected_wide, lines_of};
use super::*;
use proptest::prelude::*;

/// Whether a body is a JSON document: `None` where `serde_json`, which knows no infinities and has a depth
/// of its own, cannot tell.
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

/// What an envelope's property says.
fn given() -> impl Strategy<Value = Option<String>> {
    let texts = vec![None, Some(""), Some("pot-001"), Some("new"), Some(TIME), Some(LONGEST)];
    prop::sample::select(texts).prop_map(|text| text.map(str::to_owned))
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
        prop_assert_eq!(found, expected_narrow(&members), "{}", body);
    }

    #[test]
    fn wide_objects_are_judged_as_specified(members in members(), blanks in blanks(), first in members()) {
        let body = write(&members, &blanks);
        let found: Vec<_> = decode_items(&wide(), &[write(&first, &[]), body.clone()]).into_iter().filter_map(|item| match item {
            Item::Row { envelope: 1, item, metric, value, .. } => Some((item, Ok((metric, value)))),
            Item::Rejected { rest, .. } if rest.envelope == 1 => Some((rest.item, Err(rest.reason))),
            _ => None,
        }).collect();
        let expected: Vec<_> = (0..).zip(expected_wide(&members)).collect();
        prop_assert_eq!(found, expected, "{}", body);
    }

    #[test]
    fn strictness_is_that_of_json(body in mutated()) {
        for payload in [narrow(), wide()] {
            let items = decode_items(&payload, &[&body]);
            if let Some(sound) = is_json(&body).filter(|_| lines_of(&body).is_none()) {
                prop_assert_eq!(is_document(&items), sound, "{:?}: {:?}", String::from_utf8_lossy(&body), items);
            }
        }
    }

    #[test]
    fn lines_are_judged_as_if_each_came_alone(body in body(), device in given(), time in given()) {
        let properties = [device.as_deref(), time.as_deref()];
        for payload in [narrow(), wide()] {
            let utf8 = std::str::from_utf8(&body).is_ok();
            if let Some(lines) = lines_of(&body).filter(|_| utf8) {
                prop_assert_eq!(decode_items_with(&payload, &[&body], &properties), expected_lines(&payload, &lines, &properties), "{:?}", String::from_utf8_lossy(&body));
            } else {
                // One document, or none: then nothing of it stands.
                let items = decode_items_with(&payload, &[&body], &properties);
                prop_assert!(is_document(&items) || items.len() == 1, "{:?}: {:?}", String::from_utf8_lossy(&body), items);
            }
        }
    }

    #[test]
    fn i4_bodies_are_decoded_alike_however_the_batch_is_cut(bodies in prop::collection::vec(body(), 0..12), at: prop::sample::Index) {
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
    fn what_was_decoded_before_changes_nothing(before in prop::collection::vec(body(), 0..12), bodies in prop::collection::vec(body(), 0..6)) {
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
