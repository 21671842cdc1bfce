//! What a pod leaves behind: its termination message and its progress lines.
//!
//! Both are hostile input: a file that a pod writes can hold anything. Nothing here fails; what
//! cannot be understood becomes plain text or nothing, and everything fits the bounds of the
//! resource's schema.

use alignment_api::{
    Artifact, LONGEST_LINE, PROGRESS_SCHEMA, Progress, Quality, ResultSummary,
    TERMINATION_MESSAGE_LIMIT, TERMINATION_SCHEMA, TerminationMessage,
};

use crate::conditions::shorten;
use crate::crd::ProgressStatus;

/// Longest sentence taken over from a pod, in characters.
const LONGEST_SENTENCE: usize = 1000;
/// Lines taken from the end of a log, where a pod left no message.
const LAST_LINES: usize = 5;

/// The aligner's termination message, if that is what these bytes are.
pub fn termination(bytes: &[u8]) -> Option<TerminationMessage> {
    if bytes.len() > TERMINATION_MESSAGE_LIMIT {
        return None;
    }
    let mut message: TerminationMessage = serde_json::from_slice(bytes).ok()?;
    if message.schema != TERMINATION_SCHEMA {
        return None;
    }
    message.message = sentence(&message.message);
    message.result = message.result.as_ref().map(bounded_result);
    Some(message)
}

/// The sentence for people out of a termination message of any kind.
pub fn explanation(bytes: &[u8]) -> String {
    match termination(bytes) {
        Some(message) => message.message,
        None => last_lines(bytes),
    }
}

/// The last lines of a text that is not ours, progress left out.
fn last_lines(bytes: &[u8]) -> String {
    let tail = &bytes[bytes.len().saturating_sub(TERMINATION_MESSAGE_LIMIT)..];
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<_> = text
        .lines()
        .filter(|line| progress(line.as_bytes()).is_none())
        .map(sentence)
        .filter(|line| !line.is_empty())
        .collect();
    let kept = &lines[lines.len().saturating_sub(LAST_LINES)..];
    shorten(&kept.join(" | "), LONGEST_SENTENCE)
}

/// One line without control characters, of bounded length.
fn sentence(text: &str) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .filter(|c| !is_invisible(*c))
        .collect();
    shorten(plain.trim(), LONGEST_SENTENCE)
}

/// Characters that reorder or hide text on a terminal.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

fn bounded_result(result: &ResultSummary) -> ResultSummary {
    let artifacts = result.artifacts.iter().take(64).map(bounded_artifact);
    let warnings = result.warnings.iter().take(32);
    ResultSummary {
        quality: result.quality.as_ref().map(bounded_quality),
        depth: result.depth.clone(),
        artifacts: artifacts.collect(),
        warnings: warnings.map(|warning| sentence(warning)).collect(),
        viewer_url: result
            .viewer_url
            .as_deref()
            .and_then(|text| url(text, 2048)),
    }
}

/// A URL as it stands, or none: a part of one leads elsewhere.
fn url(text: &str, longest: usize) -> Option<String> {
    let plain = text.len() <= longest && text.chars().all(|c| c.is_ascii_graphic());
    plain.then(|| text.to_owned())
}

fn bounded_artifact(artifact: &Artifact) -> Artifact {
    Artifact {
        name: shorten(&sentence(&artifact.name), 255),
        sha256: shorten(&sentence(&artifact.sha256), 64),
        bytes: artifact.bytes.min(i64::MAX as u64),
        kind: artifact.kind,
        neuroglancer_url: artifact
            .neuroglancer_url
            .as_deref()
            .and_then(|text| url(text, 1024)),
    }
}

fn bounded_quality(quality: &Quality) -> Quality {
    Quality {
        folded_cells: quality.folded_cells.min(i64::MAX as u64),
        inverse_folded_cells: quality.inverse_folded_cells.min(i64::MAX as u64),
        ..quality.clone()
    }
}

/// The progress that a line of the log reports, if it does.
pub fn progress(line: &[u8]) -> Option<ProgressStatus> {
    if line.len() > LONGEST_LINE || line.first() != Some(&b'{') {
        return None;
    }
    let progress: Progress = serde_json::from_slice(line).ok()?;
    (progress.schema == PROGRESS_SCHEMA).then(|| bounded_progress(&progress))
}

fn bounded_progress(progress: &Progress) -> ProgressStatus {
    let upto = |value: Option<u32>, limit: u32| value.map(|value| value.min(limit) as i32);
    ProgressStatus {
        stage: progress.stage,
        percent: i32::from(progress.percent.min(100)),
        level: upto(progress.level, 15),
        iteration: upto(progress.iteration, 100_000),
        metric: progress.metric.filter(|metric| metric.is_finite()),
        eta_seconds: progress.eta_seconds.map(i64::from),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_of_the_aligner_is_understood() {
        let text = json!({"schema": TERMINATION_SCHEMA, "outcome": "InvalidImage",
            "message": "s.nii.gz: not a NIfTI file", "novelty": 1})
        .to_string();
        assert_eq!(explanation(text.as_bytes()), "s.nii.gz: not a NIfTI file");
    }

    #[test]
    fn whatever_a_pod_writes_becomes_a_short_plain_sentence() {
        let cases: [(&[u8], &str); 6] = [
            (b"", ""),
            (
                b"\xff\xfe broken \x1b[31mred\x1b[0m",
                "\u{FFFD}\u{FFFD} broken  [31mred [0m",
            ),
            (b"one\n\n two \nthree\n", "one | two | three"),
            (
                br#"{"schema":"other","outcome":"Success"}"#,
                r#"{"schema":"other","outcome":"Success"}"#,
            ),
            (b"a\xe2\x80\xaeb", "ab"),
            (b"1\n2\n3\n4\n5\n6", "2 | 3 | 4 | 5 | 6"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(explanation(bytes), expected);
        }
        let long = vec![b'x'; 100_000];
        assert_eq!(explanation(&long).chars().count(), LONGEST_SENTENCE);
    }

    #[test]
    fn progress_lines_in_a_log_are_no_explanation() {
        let log = format!(
            "{{\"schema\":\"{PROGRESS_SCHEMA}\",\"stage\":\"load\",\"percent\":1}}\nkilled\n"
        );
        assert_eq!(explanation(log.as_bytes()), "killed");
    }

    #[test]
    fn figures_out_of_range_are_brought_into_it() {
        let line = json!({"schema": PROGRESS_SCHEMA, "stage": "register", "percent": 255,
            "level": 4_000_000_000_u32, "iteration": 4_000_000_000_u32, "etaSeconds": 7});
        let progress = progress(line.to_string().as_bytes()).unwrap();
        assert_eq!((progress.percent, progress.level), (100, Some(15)));
        assert_eq!(progress.eta_seconds, Some(7));
    }

    #[test]
    fn a_line_that_is_no_progress_is_passed_over() {
        for line in [
            "",
            "{",
            "hello",
            r#"{"stage":"load","percent":1}"#,
            "[1]",
            r#"{"schema":"voluba.ebrains.eu/progress/v1","stage":"nap","percent":1}"#,
        ] {
            assert_eq!(progress(line.as_bytes()), None, "{line}");
        }
        assert_eq!(progress(&vec![b'{'; LONGEST_LINE + 1]), None);
    }

    /// Seeded, so that a failure can be repeated.
    #[test]
    fn random_bytes_do_no_harm() {
        let mut state = 1_u64;
        let mut next = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize
        };
        let pieces: [&[u8]; 8] = [
            b"{",
            b"\"schema\":",
            TERMINATION_SCHEMA.as_bytes(),
            b"[[[[",
            b"\xc3",
            b"\n",
            b"1e999",
            b"\\u0000",
        ];
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..next() % 12)
                .flat_map(|_| pieces[next() % pieces.len()].iter().copied())
                .collect();
            let text = explanation(&bytes);
            assert!(text.chars().count() <= LONGEST_SENTENCE);
            assert!(!text.chars().any(char::is_control));
            progress(&bytes);
        }
    }
}
