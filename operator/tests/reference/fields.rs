//! Fields of the custom resource, from its schema.

use operator::request::Kind;
use serde_json::Value;

use crate::table;

pub(crate) fn page(kind: Kind) -> String {
    let definition = operator::crd::schema::definition(kind).unwrap();
    let definition = serde_json::to_value(definition).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut page = format!(
        "# {}: every field

From the schema that the API server checks (`crds/{}.yaml`). What the fields mean in practice:
[align.md](../align.md#the-request-part-by-part) for the spec, [integrate.md](../integrate.md#status) for the
status. `[]` stands for each entry of a list, **bold** for a field that must be there.
",
        kind.name(),
        kind.plural()
    );
    for part in ["spec", "status"] {
        let mut rows = Vec::new();
        walk(&schema["properties"][part], "", &mut rows);
        page += "\n## ";
        page += part;
        page += "\n\n";
        page += &table(&["Field", "Type", "Limits", "Default", "Meaning"], rows);
    }
    page + &rules(schema)
}

/// One row for each field below a schema, depth first.
fn walk(schema: &Value, path: &str, rows: &mut Vec<Vec<String>>) {
    let required: Vec<&str> = texts(&schema["required"]);
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    for (name, field) in properties {
        let place = format!("{path}{name}");
        let shown = if required.contains(&name.as_str()) {
            format!("**`{place}`**")
        } else {
            format!("`{place}`")
        };
        let default = field.get("default").map(code).unwrap_or_default();
        let meaning = field["description"].as_str().unwrap_or_default().to_owned();
        rows.push(vec![shown, type_of(field), limits(field), default, meaning]);
        let (inner, place) = elements(field, place);
        walk(inner, &format!("{place}."), rows);
    }
}

/// The schema of what a list, or a list of lists, holds.
fn elements(schema: &Value, place: String) -> (&Value, String) {
    match schema.get("items") {
        Some(items) => elements(items, format!("{place}[]")),
        None => (schema, place),
    }
}

fn type_of(schema: &Value) -> String {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<String> = words
            .iter()
            .filter(|word| !word.is_null())
            .map(code)
            .collect();
        return words.join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", type_of(items));
    }
    if schema["x-kubernetes-int-or-string"] == true {
        return "quantity".to_owned();
    }
    let name = schema["format"].as_str().or(schema["type"].as_str());
    name.unwrap_or("any").to_owned()
}

fn limits(schema: &Value) -> String {
    let mut limits = Vec::new();
    let number = |name: &str| schema.get(name).map(plain);
    for (least, most, unit) in [
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " entries"),
    ] {
        match (number(least), number(most)) {
            (Some(least), Some(most)) if least == most => limits.push(format!("{least}{unit}")),
            (Some(least), Some(most)) => limits.push(format!("{least} to {most}{unit}")),
            (Some(least), None) => limits.push(format!("at least {least}{unit}")),
            (None, Some(most)) => limits.push(format!("at most {most}{unit}")),
            (None, None) => {}
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        limits.push(format!("`{pattern}`"));
    }
    limits.join("; ")
}

/// Rules that go across fields, in the words that the API server answers with.
fn rules(schema: &Value) -> String {
    let mut found = Vec::new();
    collect(schema, "", &mut found);
    let introduction =
        "\n## Rules across fields\n\nChecked by the API server; the message is its answer.\n\n";
    introduction.to_owned() + &table(&["Field", "Message"], found)
}

fn collect(schema: &Value, path: &str, found: &mut Vec<Vec<String>>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let place = if path.is_empty() { "the request" } else { path };
        let message = rule["message"].as_str().unwrap_or_default();
        found.push(vec![format!("`{place}`"), message.to_owned()]);
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let separator = if path.is_empty() { "" } else { "." };
        collect(field, &format!("{path}{separator}{name}"), found);
    }
    if let Some(items) = schema.get("items") {
        collect(items, &format!("{path}[]"), found);
    }
}

fn code(value: &Value) -> String {
    if let Some(entries) = value.as_array().filter(|entries| !entries.is_empty()) {
        let entries: Vec<String> = entries.iter().map(code).collect();
        return entries.join(", ");
    }
    match value.as_str() {
        Some("") => "empty".to_owned(),
        Some(text) => format!("`{text}`"),
        None => format!("`{}`", plain(value)),
    }
}

/// A value as JSON; numbers without a fraction as integers.
fn plain(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| value.to_string(), |number| number.to_string())
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
