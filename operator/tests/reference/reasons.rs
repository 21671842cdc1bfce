//! Exit codes and reasons, from the enums and what is written beside their variants.

use alignment_api::{ExitCode, RetryClass};
use operator::conditions::Reason;
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use crate::table;

const INTRODUCTION: &str = "# Exit codes and reasons

The lists are closed within `v1alpha1`. What to do about each: [failures.md](../failures.md); which condition
carries it: [integrate.md](../integrate.md#conditions-and-reasons).

## Exit codes of the aligner

On a cluster, the reason is that of the condition `Failed` and of `.status.failure`.

";

pub(crate) fn page() -> String {
    let described = variants::<ExitCode>();
    let codes = ExitCode::ALL.into_iter().map(|exit| {
        let text = described.iter().find(|(name, _)| name == exit.reason());
        let text = text.map(|(_, text)| text.as_str()).unwrap_or_default();
        // The number has a column of its own.
        let meaning = text.split_once(": ").map_or(text, |(_, meaning)| meaning);
        let again = match exit.retry_class() {
            RetryClass::Never => "no",
            RetryClass::Retry => "up to 3 times",
            RetryClass::RightSizeOnce => "once, with more memory",
            RetryClass::UntilDeadline => "until the deadline",
        };
        vec![
            exit.code().to_string(),
            format!("`{}`", exit.reason()),
            meaning.to_owned(),
            again.to_owned(),
        ]
    });
    let head = ["Code", "Reason", "Meaning", "Tried again on a cluster"];
    let codes = table(&head, codes);
    let reasons = variants::<Reason>();
    let reasons = reasons
        .into_iter()
        .map(|(name, text)| vec![format!("`{name}`"), text]);
    format!(
        "{INTRODUCTION}{codes}\n## Reasons of conditions that are no exit code\n\n{}",
        table(&["Reason", "Meaning"], reasons)
    )
}

/// Names of an enum's plain variants with their documentation.
fn variants<T: JsonSchema>() -> Vec<(String, String)> {
    let schema = schema_for!(T).to_value();
    let alternatives = schema["oneOf"].as_array().into_iter().flatten();
    let plain = alternatives.filter_map(|variant| {
        let name = variant["const"].as_str()?;
        let text = variant["description"].as_str().unwrap_or_default();
        Some((name.to_owned(), text.to_owned()))
    });
    let plain: Vec<_> = plain.collect();
    assert!(
        !plain.is_empty(),
        "no variants in {}",
        Value::clone(&schema)
    );
    plain
}
