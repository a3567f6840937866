//! What the specification says of an object, written down without regard to speed.

use super::generate::Literal;
use super::*;

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
