//! The reference pages in `docs/reference` are what the types say. `UPDATE_GOLDEN=1` writes them.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use operator::request::Kind;

mod fields;
mod metrics;
mod reasons;

fn check(page: &str, generated: &str) {
    let lines: Vec<&str> = generated.lines().map(str::trim_end).collect();
    let generated = format!("{}\n", lines.join("\n").trim_end());
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs/reference")
        .join(page);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(committed, generated, "run `make generate`");
}

/// A table of Markdown. Line breaks and bars in cells are made harmless.
fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let cell = |text: String| text.replace('\n', " ").replace('|', "\\|");
    let mut text = line(head.iter().map(|&name| name.to_owned()).collect());
    text += &line(vec!["---".to_owned(); head.len()]);
    for row in rows {
        text += &line(row.into_iter().map(cell).collect());
    }
    text
}

#[test]
fn the_page_of_the_command_line_is_the_programs_help() {
    let options = clap_markdown::MarkdownOptions::new()
        .title("operator: commands and options".to_owned())
        .show_footer(false);
    let help = clap_markdown::help_markdown_custom::<operator::cli::Cli>(&options);
    check("operator.md", &help);
}

#[test]
fn the_pages_of_the_fields_are_the_schemas() {
    check("request.md", &fields::page(Kind::Alignment));
    check("depth-map-request.md", &fields::page(Kind::DepthMap));
}

#[test]
fn the_page_of_the_metrics_is_what_is_exported() {
    check("metrics.md", &metrics::page());
}

#[test]
fn the_page_of_exit_codes_and_reasons_is_the_enums() {
    check("reasons.md", &reasons::page());
}
