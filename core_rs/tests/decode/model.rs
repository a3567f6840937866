//! What the specification says of a body of lines and of an object, written down without regard to speed.

use super::generate::Literal;
use super::*;

/// The lines of a body that has a document on each, with their places; none if it is one document, or no document at all.
pub(crate) fn lines_of(body: &[u8]) -> Option<Vec<(usize, &[u8])>> {
    let blank = |c: &u8| b" \t\r".contains(c);
    let mut lines = Vec::new();
    let mut start = 0;
    for line in body.split(|c| *c == b'\n') {
        if let Some(first) = line.iter().position(|c| !blank(c)) {
            let last = line.iter().rposition(|c| !blank(c)).unwrap();
            lines.push((start + first, &line[first..=last]));
        }
        start += line.len() + 1;
    }
    let (_, first) = lines.first()?;
    // Alone, a line is one document, which the tests of those hold to `serde_json`.
    let whole = matches!(first[0], b'{' | b'[')
        && !reasons(&decode_items(&narrow(), &[first])).iter().any(|reason| *reason <= Reason::BadJson);
    (whole && lines.len() > 1).then_some(lines)
}

/// The items of a body of lines: those that its lines have alone, numbered on and moved to their places.
pub(crate) fn expected_lines(payload: &Payload, lines: &[(usize, &[u8])], properties: &[Option<&str>]) -> Vec<Item> {
    let mut expected = Vec::new();
    for (start, line) in lines {
        let (number, start) = (expected.len() as i32, *start as u32);
        expected.extend(decode_items_with(payload, &[line], properties).into_iter().map(|item| match item {
            Item::Row { envelope, item, device, metric, time, value, quality, span } => {
                let (item, span) = (number + item, (start + span.0, start + span.1));
                Item::Row { envelope, item, device, metric, time, value, quality, span }
            }
            Item::Rejected { device, metric, mut rest } => {
                rest.item = number + rest.item.max(0);
                (rest.at, rest.start, rest.end) = (start + rest.at, start + rest.start, start + rest.end);
                Item::Rejected { device, metric, rest }
            }
        }));
    }
    expected
}

pub(crate) fn reasons(items: &[Item]) -> Vec<Reason> {
    let reason = |item: &Item| if let Item::Rejected { rest, .. } = item { Some(rest.reason) } else { None };
    items.iter().filter_map(reason).collect()
}

type Members = [(String, Literal)];

fn of(members: &Members, key: &str) -> Vec<Literal> {
    members.iter().filter(|(k, _)| k == key).map(|(_, literal)| *literal).collect()
}

fn given(members: &Members, key: &str) -> Vec<Literal> {
    of(members, key).into_iter().filter(|literal| literal.json != "null").collect()
}

fn spell(text: &str, names: &Names) -> String {
    names.get(text).map_or_else(|| format!("fresh {text}"), |_| text.to_owned())
}

fn spell_value(value: Literal) -> String {
    value.text.map_or_else(|| format!("{:?}", value.number.unwrap()), |text| spell(text, &vocabulary().texts))
}

fn renamed(metric: &str) -> &str {
    if metric == "volts" { "cell_voltage" } else { metric }
}

fn quality(members: &Members) -> i16 {
    let whole = |q: &f64| (0.0..=32767.0).contains(q) && q.fract() == 0.0;
    given(members, "q").first().map_or(192, |v| v.number.filter(whole).map_or(-1, |q| q as i16))
}

/// The device, and all that is wrong with device, time and quality as such.
fn common(members: &Members, failures: &mut Vec<Reason>) -> Option<&'static str> {
    for key in ["deviceId", "dev", "ts", "q"] {
        if of(members, key).len() > 1 {
            failures.push(Reason::RepeatedKey);
        }
    }
    let found = ["deviceId", "dev"].map(|key| given(members, key));
    let device = found.into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    failures.extend(device.iter().filter_map(|v| match v.text {
        None => Some(Reason::WrongType),
        Some("") => Some(Reason::MissingDevice),
        Some(text) => (text.len() > 256).then_some(Reason::UnknownDevice),
    }));
    if device.is_empty() {
        failures.push(Reason::MissingDevice);
    }
    let time = given(members, "ts");
    failures.extend(time.iter().filter_map(|v| match (v.text, v.number) {
        (Some(TIME), _) => None,
        (None, None) => Some(Reason::WrongType),
        _ => Some(Reason::BadTime),
    }));
    if time.is_empty() {
        failures.push(Reason::MissingTime);
    }
    if given(members, "q").iter().any(|v| v.number.is_none()) {
        failures.push(Reason::WrongType);
    }
    device.first().and_then(|device| device.text)
}

fn value_failure(value: &Literal) -> Option<Reason> {
    match (value.text, value.number) {
        (None, None) => Some(Reason::WrongType),
        (None, Some(number)) if !number.is_finite() => Some(Reason::NotFinite),
        _ => None,
    }
}

/// The reading that the members of a narrow object are, or the reason why they are none.
pub(crate) fn expected_narrow(members: &Members) -> Result<(String, String, i64, String, i16), Reason> {
    let mut failures = Vec::new();
    let device = common(members, &mut failures);
    let (metric, value) = (given(members, "metric"), given(members, "value"));
    if of(members, "metric").len() > 1 || of(members, "value").len() > 1 {
        failures.push(Reason::RepeatedKey);
    }
    failures.extend(metric.iter().filter_map(|v| match v.text {
        None => Some(Reason::WrongType),
        Some("") => Some(Reason::UnknownMetric),
        Some(text) => (text.len() > 256).then_some(Reason::UnknownMetric),
    }));
    if metric.is_empty() {
        failures.push(Reason::UnknownMetric);
    }
    failures.extend(value.iter().filter_map(value_failure));
    if value.is_empty() {
        failures.push(Reason::MissingValue);
    }
    if let Some(worst) = failures.into_iter().min() {
        return Err(worst);
    }
    let names = vocabulary();
    let metric = renamed(metric[0].text.unwrap());
    let metric = spell(metric, &names.metrics);
    Ok((spell(device.unwrap(), &names.devices), metric, TIME_US, spell_value(value[0]), quality(members)))
}

/// The metrics and values that the members of a wide object are, or the reasons why they are none.
pub(crate) fn expected_wide(members: &Members) -> Vec<Result<(String, String), Reason>> {
    let mut failures = Vec::new();
    common(members, &mut failures);
    let parts = ["deviceId", "dev", "ts", "q", "seq"];
    let metrics: Vec<_> = members.iter().filter(|(key, _)| !parts.contains(&key.as_str())).collect();
    let mut names: Vec<&str> = metrics.iter().map(|(key, _)| renamed(key)).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        failures.push(Reason::RepeatedKey);
    }
    if metrics.is_empty() {
        failures.push(Reason::MissingValue);
    }
    if given(members, "q").iter().any(|v| v.number.is_some()) && quality(members) < 64 {
        failures.push(Reason::BadQuality);
    }
    if let Some(worst) = failures.iter().filter(|reason| **reason != Reason::UnknownDevice).min() {
        return vec![Err(*worst)];
    }
    let unknown = failures.pop();
    let judge = |(key, value): &(String, Literal)| {
        let unnamed = key.is_empty().then_some(Reason::UnknownMetric);
        match value_failure(value).or(unknown).or(unnamed) {
            Some(reason) => Err(reason),
            None => Ok((spell(renamed(key), &vocabulary().metrics), spell_value(*value))),
        }
    };
    metrics.into_iter().filter(|(_, value)| value.json != "null").map(judge).collect()
}
