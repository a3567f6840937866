//! What the specification says of a narrow object, written down without regard to speed.

use super::generate::Literal;
use super::*;

/// The reading that these members are, or the reason why they are none.
pub(crate) fn expected(members: &[(String, Literal)]) -> Result<(String, String, i64, String, i16), Reason> {
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
