//! What helps after a failure, in a sentence or two for whoever made the request.

/// What to do about a failure of this reason.
pub fn help(reason: &str) -> &'static str {
    match reason {
        "InvalidRequest" => "Correct the fields that the message names, and make a new request.",
        "InvalidImage" => {
            "The file that the message names is damaged or of a kind that is not read. Export it again as NIfTI, \
             and make a new request."
        }
        "ImageNotFound" => {
            "Check the name of the image at the image service, without .nii or .nii.gz, and make a new request."
        }
        "Unauthorized" => {
            "The image service no longer took the token: it had probably expired. Sign in again and make a new request."
        }
        "TemplateUnavailable" => {
            "The installation lacks the template. Tell those who run it; nothing is wrong with the request."
        }
        "ImageServiceUnavailable" => {
            "The image service did not answer for several minutes. Try again later with the same request."
        }
        "InternalError" => {
            "This is a defect of the program. Please report it with the message and, if you can, the images."
        }
        "InsufficientMemory" => {
            "The images need more memory than the installation gives. Crop them or reduce their resolution, or ask \
             those who run it for more."
        }
        "UploadRefused" => {
            "The image service did not take the result. Check that you may write there and that there is room left."
        }
        "IoError" => {
            "Reading or writing failed several times, for example on a full disk. Try again later."
        }
        "Interrupted" => "The computation was stopped from outside several times. Try again later.",
        "AlignmentFailed" => {
            "The patch could not be brought to the template's cortex. Check that placement and segmentation fit: the \
             patch must lie in the template's cortex, and the labels must be the right ones."
        }
        "DestinationForbidden" => {
            "The installation does not allow a place that the request names. Ask those who run it to allow it."
        }
        "DeadlineExceeded" => {
            "It took longer than it may. Try the preset `fast`, a smaller patch, or a longer activeDeadlineSeconds."
        }
        "ProcessFailed" | "JobFailed" => {
            "The computation ended without a word. Try again; if it happens again, tell those who run the installation."
        }
        _ => "The message says what happened. Those who run the installation can tell more.",
    }
}

#[cfg(test)]
mod tests {
    use alignment_api::ExitCode;

    use super::*;
    use crate::conditions::Reason;

    #[test]
    fn every_way_to_fail_has_words_of_its_own() {
        let other = help("");
        let exits = ExitCode::ALL
            .into_iter()
            .filter(|exit| *exit != ExitCode::Success);
        let reasons = exits.map(Reason::Exit);
        let more = [
            Reason::DeadlineExceeded,
            Reason::ProcessFailed,
            Reason::JobFailed,
        ];
        for reason in reasons.chain(more) {
            assert_ne!(help(reason.name()), other, "{}", reason.name());
        }
    }
}
