//! The result in a few lines for a person, and in 4,096 bytes for Kubernetes.

use std::io::{self, Write};

use alignment_api::{
    DepthReport, Report, ResultSummary, TERMINATION_MESSAGE_LIMIT, TERMINATION_SCHEMA,
    TerminationMessage,
};

use crate::{error::Error, work::Done};

/// Prints what a person wants to know first.
///
/// # Errors
/// Whatever the writer says.
pub fn print(done: &Done, out: &mut dyn Write) -> io::Result<()> {
    match done {
        Done::Alignment(report) => print_quality(report, out)?,
        Done::DepthMap(report) => print_depth(&report.depth, out)?,
    }
    let summary = summary(done);
    for warning in &summary.warnings {
        writeln!(out, "warning          {warning}")?;
    }
    for artifact in &summary.artifacts {
        writeln!(
            out,
            "wrote            {} ({} bytes)",
            artifact.name, artifact.bytes
        )?;
    }
    if let Some(url) = &summary.viewer_url {
        writeln!(out, "view             {url}")?;
    }
    Ok(())
}

fn print_depth(depth: &DepthReport, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "cortex           {} voxels, their validity {:.2} on average (0 to 1)",
        depth.cortex_voxels, depth.mean_validity
    )?;
    if let Some(median) = depth.median_thickness_mm {
        writeln!(out, "thickness        {median:.2} mm (median)")?;
    }
    Ok(())
}

fn print_quality(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let quality = &report.quality;
    writeln!(
        out,
        "depth residual   {:.4} -> {:.4}   (root mean square over the cortex, 0 to 1)",
        quality.depth_residual_before, quality.depth_residual_after
    )?;
    if let (Some(before), Some(after)) = (
        quality.landmark_mean_before_mm,
        quality.landmark_mean_after_mm,
    ) {
        let active = report
            .landmarks
            .iter()
            .filter(|landmark| landmark.active)
            .count();
        writeln!(
            out,
            "landmark error   {before:.3} -> {after:.3} mm   (mean over {active} active)"
        )?;
    }
    writeln!(
        out,
        "displacement     {:.3} mm mean over the cortex, {:.3} mm largest",
        quality.displacement_mean_mm, quality.displacement_max_mm
    )?;
    writeln!(
        out,
        "Jacobian         {:.2} to {:.2}, {} folded cells; inverse {} folded cells",
        quality.jacobian_min,
        quality.jacobian_max,
        quality.folded_cells,
        quality.inverse_folded_cells
    )?;
    writeln!(
        out,
        "inverse          consistent to {:.1e} mm mean, {:.1e} mm largest",
        quality.inverse_consistency_mean_mm, quality.inverse_consistency_max_mm
    )?;
    writeln!(
        out,
        "overlap          {:.1} % of the patch's cortex lies in the template",
        100.0 * quality.overlap
    )?;
    Ok(())
}

/// Prints a warning to standard error.
pub fn warn(warning: &str) {
    let _ = writeln!(io::stderr(), "warning: {warning}");
}

/// The termination message of a process, at most [`TERMINATION_MESSAGE_LIMIT`] bytes of JSON.
pub fn termination_message(result: &Result<Option<Done>, Error>) -> String {
    let mut message = match result {
        Ok(done) => TerminationMessage {
            schema: TERMINATION_SCHEMA.to_owned(),
            outcome: alignment_api::ExitCode::Success,
            message: String::new(),
            required_memory_bytes: None,
            result: done.as_ref().map(summary),
        },
        Err(error) => TerminationMessage {
            schema: TERMINATION_SCHEMA.to_owned(),
            outcome: error.exit_code(),
            message: error.to_string(),
            required_memory_bytes: error.required_memory_bytes(),
            result: None,
        },
    };
    loop {
        let text = serde_json::to_string(&message).unwrap_or_default();
        if text.len() <= TERMINATION_MESSAGE_LIMIT || !shorten(&mut message) {
            return text;
        }
    }
}

fn summary(done: &Done) -> ResultSummary {
    match done {
        Done::Alignment(report) => ResultSummary {
            quality: Some(report.quality.clone()),
            depth: None,
            artifacts: report.artifacts.clone(),
            warnings: report.warnings.clone(),
            viewer_url: report.viewer_url.clone(),
        },
        Done::DepthMap(report) => ResultSummary {
            quality: None,
            depth: Some(report.depth.clone()),
            artifacts: report.artifacts.clone(),
            warnings: report.warnings.clone(),
            viewer_url: None,
        },
    }
}

/// Drops the least important part; false if nothing is left to drop.
fn shorten(message: &mut TerminationMessage) -> bool {
    if let Some(result) = &mut message.result {
        // A warning matters more than a file name: the report lists the files, too.
        return result.artifacts.pop().is_some()
            || result.warnings.pop().is_some()
            || result.viewer_url.take().is_some();
    }
    let mut length = message.message.len() * 3 / 4;
    while !message.message.is_char_boundary(length) {
        length -= 1;
    }
    message.message.truncate(length);
    length > 0
}

#[cfg(test)]
mod tests {
    use alignment_api::Violation;

    use super::*;

    #[test]
    fn a_long_failure_is_cut_to_the_limit_and_stays_json() {
        let violation = Violation {
            field: "spec.x".into(),
            message: "ä\"".repeat(5000),
        };
        let text = termination_message(&Err(Error::Request(vec![violation])));
        assert!(text.len() <= TERMINATION_MESSAGE_LIMIT);
        let back: TerminationMessage = serde_json::from_str(&text).unwrap();
        assert_eq!(back.outcome, alignment_api::ExitCode::InvalidRequest);
        assert!(back.message.contains("spec.x"));
    }
}
