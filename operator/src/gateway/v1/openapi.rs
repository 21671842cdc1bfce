//! The description of the interface: its paths are written by hand, what requests and results hold
//! comes from their types.

use std::sync::LazyLock;

use alignment_api::{AlignmentSpec, DepthMapSpec};
use axum::http::header;
use axum::response::IntoResponse;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use crate::crd::{AlignmentResult, ProgressStatus};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| whole().to_string());

/// The document.
pub async fn document() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.as_str(),
    )
}

fn whole() -> Value {
    let text = include_str!("openapi.json");
    let mut document: Value = serde_json::from_str(text).unwrap_or_default();
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    generator.subschema_for::<AlignmentSpec>();
    generator.subschema_for::<DepthMapSpec>();
    generator.subschema_for::<ProgressStatus>();
    generator.subschema_for::<AlignmentResult>();
    let types = generator.take_definitions(true);
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        schemas.extend(types);
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(to) if name == "$ref" => found.push(to.clone()),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = whole();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    }
}
