//! Reading a body of the old interface: as leniently as the old service did, and with every violation
//! under the name of its field.
//!
//! Numbers may be texts, truth may be a word, what is not known is ignored. The form of the errors is
//! the old one, too: an object of fields, each with a list of sentences, nested where the body is.

use alignment_api::WebUrl;
use serde_json::{Map, Value, json};

/// What is wrong with a body, by field.
#[derive(Debug, Default, PartialEq)]
pub struct Violations(Map<String, Value>);

impl Violations {
    /// Notes a sentence at a place: names of fields and indices, from the outside in.
    pub fn add(&mut self, place: &[&str], sentence: impl Into<String>) {
        let Some((last, outer)) = place.split_last() else {
            return;
        };
        let mut fields = &mut self.0;
        for name in outer {
            let field = fields.entry(*name).or_insert_with(|| json!({}));
            // Otherwise what holds it is wrong already.
            let Value::Object(inner) = field else { return };
            fields = inner;
        }
        let field = fields.entry(*last).or_insert_with(|| json!([]));
        if let Value::Array(sentences) = field {
            sentences.push(Value::String(sentence.into()));
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a client gets them.
    pub fn into_json(self) -> Value {
        Value::Object(self.0)
    }
}

/// The object that a body is; `_schema` stands for the whole of it.
///
/// # Errors
/// If it is no object.
pub fn object(body: &Value) -> Result<&Map<String, Value>, Violations> {
    body.as_object().ok_or_else(|| {
        let mut found = Violations::default();
        found.add(&["_schema"], "Expected a JSON object.");
        found
    })
}

/// A field that must be there.
pub fn required<'a>(
    fields: &'a Map<String, Value>,
    place: &[&str],
    found: &mut Violations,
) -> Option<&'a Value> {
    match fields.get(*place.last()?) {
        None => found.add(place, "Missing data for required field."),
        Some(Value::Null) => found.add(place, "Field may not be null."),
        Some(value) => return Some(value),
    }
    None
}

/// A text that must be there.
pub fn text(fields: &Map<String, Value>, name: &str, found: &mut Violations) -> Option<String> {
    let value = required(fields, &[name], found)?;
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    found.add(&[name], "Not a valid string.");
    None
}

/// A base URL that must be there, in its one form: with a slash at its end.
pub fn base_url(fields: &Map<String, Value>, name: &str, found: &mut Violations) -> Option<WebUrl> {
    let text = text(fields, name, found)?;
    let with_slash = format!("{}/", text.trim_end_matches('/'));
    match WebUrl::parse(&with_slash) {
        Ok(url) if url.has_query() => found.add(&[name], "Not a valid URL: has a query."),
        Ok(url) if !is_complete(url.origin().host()) => {
            found.add(&[name], "Not a valid URL: expected a whole host name.");
        }
        Ok(url) => return Some(url),
        Err(problem) => found.add(&[name], format!("Not a valid URL: {problem}.")),
    }
    None
}

/// A host as the old service took it: with a dot, `localhost`, or an address.
fn is_complete(host: &str) -> bool {
    host.contains('.') || host == "localhost" || host.starts_with('[')
}

/// A number, or a text that is one; finite.
///
/// # Errors
/// What is wrong with it.
pub fn number(value: &Value) -> Result<f64, &'static str> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number {
        Some(number) if number.is_finite() => Ok(number),
        Some(_) => Err("Special numeric values (nan or infinity) are not permitted."),
        None => Err("Not a valid number."),
    }
}

/// So many numbers.
pub fn numbers<const N: usize>(
    value: &Value,
    place: &[&str],
    found: &mut Violations,
) -> Option<[f64; N]> {
    let Some(values) = value.as_array() else {
        found.add(place, "Not a valid list.");
        return None;
    };
    if values.len() != N {
        found.add(place, format!("Length must be {N}."));
        return None;
    }
    let mut numbers = [0.0; N];
    let mut all = true;
    for (index, value) in values.iter().enumerate() {
        match self::number(value) {
            Ok(number) => numbers[index] = number,
            Err(sentence) => {
                all = false;
                let index = index.to_string();
                found.add(&[place, &[&index]].concat(), sentence);
            }
        }
    }
    all.then_some(numbers)
}

const TRUE: [&str; 6] = ["t", "true", "on", "1", "y", "yes"];
const FALSE: [&str; 6] = ["f", "false", "off", "0", "n", "no"];

/// Truth, or one of the usual words for it.
pub fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_f64()? {
            0.0 => Some(false),
            1.0 => Some(true),
            _ => None,
        },
        Value::String(text) => {
            let word = text.to_ascii_lowercase();
            if TRUE.contains(&word.as_str()) {
                Some(true)
            } else {
                FALSE.contains(&word.as_str()).then_some(false)
            }
        }
        _ => None,
    }
}

/// Parses a body. The words that some writers use for numbers that are none become texts: they are
/// refused with their field, not as a mistake of syntax.
///
/// # Errors
/// If it is no JSON.
pub fn parse(body: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(body).or_else(|error| {
        let Ok(text) = std::str::from_utf8(body) else {
            return Err(error);
        };
        serde_json::from_str(&quote_odd_numbers(text)).map_err(|_| error)
    })
}

fn quote_odd_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    'next: while let Some(first) = rest.chars().next() {
        if !inside {
            for word in ["NaN", "-Infinity", "Infinity"] {
                if let Some(after) = rest.strip_prefix(word) {
                    out.extend(["\"", word, "\""]);
                    rest = after;
                    continue 'next;
                }
            }
        }
        let mut length = first.len_utf8();
        match first {
            '"' => inside = !inside,
            // With what it escapes.
            '\\' if inside => length += rest[length..].chars().next().map_or(0, char::len_utf8),
            _ => {}
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_be_texts_and_must_be_finite() {
        for (value, expected) in [
            (json!(1), Some(1.0)),
            (json!("1.5"), Some(1.5)),
            (json!(" -2e3 "), Some(-2000.0)),
            (json!("nan"), None),
            (json!("Infinity"), None),
            (json!(true), None),
            (json!("x"), None),
            (json!(null), None),
        ] {
            assert_eq!(number(&value).ok(), expected, "{value}");
        }
    }

    #[test]
    fn truth_may_be_a_word() {
        for (value, expected) in [
            (json!(true), Some(true)),
            (json!("no"), Some(false)),
            (json!("Yes"), Some(true)),
            (json!("1"), Some(true)),
            (json!(0), Some(false)),
            (json!(2), None),
            (json!("maybe"), None),
            (json!([]), None),
        ] {
            assert_eq!(boolean(&value), expected, "{value}");
        }
    }

    #[test]
    fn urls_are_absolute_and_name_a_whole_host() {
        for (text, expected) in [
            (
                "https://images.example.org/chumni",
                Some("https://images.example.org/chumni/"),
            ),
            (
                "https://images.example.org/chumni/",
                Some("https://images.example.org/chumni/"),
            ),
            ("http://localhost:8080", Some("http://localhost:8080/")),
            ("http://127.0.0.1:1/a", Some("http://127.0.0.1:1/a/")),
            ("http://[::1]/a", Some("http://[::1]/a/")),
            ("http://chumni/", None),
            ("ftp://images.example.org", None),
            ("images.example.org", None),
            ("", None),
        ] {
            let body = json!({"u": text});
            let mut found = Violations::default();
            let url = base_url(body.as_object().unwrap(), "u", &mut found);
            assert_eq!(
                url.map(|url| url.request_text()).as_deref(),
                expected,
                "{text}"
            );
            assert_eq!(found.is_empty(), expected.is_some());
        }
    }

    #[test]
    fn violations_are_nested_as_the_body_is() {
        let mut found = Violations::default();
        found.add(&["a"], "first");
        found.add(&["a"], "second");
        found.add(&["pairs", "0", "point"], "third");
        found.add(&["a", "0"], "lost: the whole of a is wrong");
        let expected = json!({"a": ["first", "second"], "pairs": {"0": {"point": ["third"]}}});
        assert_eq!(found.into_json(), expected);
    }

    #[test]
    fn words_for_numbers_that_are_none_are_no_mistake_of_syntax() {
        let body = br#"{"a": [NaN, -Infinity, 1], "b": "NaN \" NaN"}"#;
        let expected = json!({"a": ["NaN", "-Infinity", 1], "b": "NaN \" NaN"});
        assert_eq!(parse(body).unwrap(), expected);
        assert!(parse(b"{").is_err() && parse(b"{NaN}").is_err() && parse(b"\xff").is_err());
    }
}
