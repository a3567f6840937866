//! Device patterns: `pot-{001..048}`, `press-{1..3}`, `hall-{north,south}`, several in one name.

pub(super) const ALLOWED: &str =
    "allowed: a name, with {001..048}, {1..4} or {north,south} in it for several devices at once";

enum Part {
    Text(String),
    Numbers { first: u64, last: u64, width: usize },
    Words(Vec<String>),
}

impl Part {
    fn count(&self) -> u64 {
        match self {
            Part::Text(_) => 1,
            Part::Numbers { first, last, .. } => last - first + 1,
            Part::Words(words) => words.len() as u64,
        }
    }

    fn append(&self, name: &mut String, index: u64) {
        match self {
            Part::Text(text) => name.push_str(text),
            Part::Numbers { first, width, .. } => {
                let digits = (first + index).to_string();
                name.extend(std::iter::repeat_n('0', width.saturating_sub(digits.len())));
                name.push_str(&digits);
            }
            Part::Words(words) => name.push_str(&words[index as usize]),
        }
    }
}

/// All names of a pattern, the last braces varying fastest; at most `names_max`, counted before any is made.
pub(super) fn expand(pattern: &str, names_max: usize) -> Result<Vec<String>, String> {
    let parts = parse(pattern)?;
    let count = parts.iter().try_fold(1_u64, |count, part| count.checked_mul(part.count()));
    let Some(count) = count.filter(|&count| count <= names_max as u64) else {
        return Err(format!("the pattern makes too many names; allowed: at most {names_max} here (bounds.series)"));
    };
    Ok((0..count).map(|index| name(&parts, index)).collect())
}

fn name(parts: &[Part], index: u64) -> String {
    let mut indexes = vec![0; parts.len()];
    let mut rest = index;
    for (slot, part) in indexes.iter_mut().zip(parts).rev() {
        *slot = rest % part.count();
        rest /= part.count();
    }
    let mut name = String::new();
    for (part, index) in parts.iter().zip(indexes) {
        part.append(&mut name, index);
    }
    name
}

fn parse(pattern: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some(open) = rest.find('{') {
        let (text, braces) = rest.split_at(open);
        let Some(close) = braces.find('}') else {
            return Err(format!("a brace is not closed; {ALLOWED}"));
        };
        parts.push(literal(text)?);
        parts.push(choices(&braces[1..close])?);
        rest = &braces[close + 1..];
    }
    parts.push(literal(rest)?);
    Ok(parts)
}

fn literal(text: &str) -> Result<Part, String> {
    if text.contains('}') { Err(format!("a brace is not opened; {ALLOWED}")) } else { Ok(Part::Text(text.to_owned())) }
}

fn choices(inside: &str) -> Result<Part, String> {
    if let Some((first, last)) = inside.split_once("..") {
        return numbers(first, last);
    }
    let words: Vec<String> = inside.split(',').map(str::to_owned).collect();
    if words.len() < 2 || words.iter().any(String::is_empty) || inside.contains('{') {
        return Err(format!("{{{inside}}} is neither a range nor a list; {ALLOWED}"));
    }
    Ok(Part::Words(words))
}

fn numbers(first: &str, last: &str) -> Result<Part, String> {
    let number = |text: &str| {
        // Eighteen digits keep every sum below within u64.
        let plain = (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (Some(from), Some(to)) = (number(first), number(last)) else {
        return Err(format!("{{{first}..{last}}} is not a range of whole numbers; {ALLOWED}"));
    };
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let width = if padded(first) || padded(last) { first.len() } else { 0 };
    if width > 0 && first.len() != last.len() {
        return Err(format!(
            "{{{first}..{last}}} is padded with zeros on one side; allowed: as many digits on both sides"
        ));
    }
    if from > to {
        return Err(format!("{{{first}..{last}}} runs backwards; allowed: the smaller number first"));
    }
    Ok(Part::Numbers { first: from, last: to, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_name_their_devices_in_order() {
        assert_eq!(expand("pot-{008..011}", 9).unwrap(), ["pot-008", "pot-009", "pot-010", "pot-011"]);
        assert_eq!(expand("{9..11}", 9).unwrap(), ["9", "10", "11"]);
        assert_eq!(expand("{a,b}-{1..2}x", 9).unwrap(), ["a-1x", "a-2x", "b-1x", "b-2x"]);
        assert_eq!(expand("plain", 1).unwrap(), ["plain"]);
        assert_eq!(expand("{00..01}", 9).unwrap(), ["00", "01"]);
    }

    #[test]
    fn a_pattern_out_of_form_says_what_is_allowed() {
        for bad in [
            "{",
            "}",
            "a{1..2",
            "a}b",
            "{1..}",
            "{..2}",
            "{a..b}",
            "{01..2}",
            "{3..1}",
            "{}",
            "{a}",
            "{a,}",
            "{{1..2}}",
            "{1..9999999999999999999}",
        ] {
            let message = expand(bad, 100).unwrap_err();
            assert!(message.contains("allowed:"), "{bad}: {message}");
        }
    }

    #[test]
    fn names_are_counted_before_they_are_made() {
        assert!(expand("{1..999999999999999999}", 100).is_err());
        assert!(expand(&"{1..999999999}".repeat(50), 100).is_err());
    }
}
