//! The reference page of the command line is what the program's own help says. `UPDATE_GOLDEN=1`
//! writes it.

use std::path::Path;

use clap_markdown::MarkdownOptions;

#[test]
fn the_page_of_the_command_line_is_the_programs_help() {
    let options = MarkdownOptions::new()
        .title("aligner: commands and options".to_owned())
        .show_footer(false);
    let help = clap_markdown::help_markdown_custom::<aligner::cli::Cli>(&options);
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    let generated = format!("{}\n", lines.join("\n").trim_end());
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/aligner.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(committed, generated, "run `make generate`");
}
