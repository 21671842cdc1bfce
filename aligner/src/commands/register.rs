//! `aligner register`: two depth maps and a placement, without a request file.

use std::num::NonZero;

use alignment_api::{OutputArtifact, Placement, RegistrationParameters, Space};

use crate::{
    again,
    cli::RegisterArgs,
    error::Error,
    io::voluba,
    job::{DepthJob, Job},
    pipeline,
    progress::Reporter,
    transfers::Transfers,
    work::Done,
};

pub(super) fn register(args: &RegisterArgs, reporter: &Reporter) -> Result<Done, Error> {
    let file = voluba::read_placement(&args.placement)?;
    let space = args
        .space
        .map(Space::from)
        .or(file.space)
        .unwrap_or_default();
    let landmarks = args.landmarks.as_deref().map(voluba::read_landmarks);
    let landmarks = landmarks.transpose()?.unwrap_or_default();
    let landmark_space = args
        .landmark_space
        .map(Space::from)
        .or(landmarks.space)
        .unwrap_or(space);
    let job = Job {
        name: None,
        template_name: "template".to_owned(),
        template: args.moving.clone(),
        template_sha256: None,
        images: Vec::new(),
        depth: DepthJob::Map {
            path: args.fixed.clone(),
        },
        placement: Placement {
            matrix: file.matrix,
            space,
        },
        landmarks: landmarks.pairs,
        landmark_space,
        registration: RegistrationParameters {
            preset: args.preset.into(),
            landmark_mode: args.landmark_mode.into(),
            landmark_uncertainty_mm: args.landmark_uncertainty,
            ..Default::default()
        },
        folder: args.output.clone(),
        grids: Vec::new(),
        artifacts: vec![
            OutputArtifact::Warp,
            OutputArtifact::InverseWarp,
            OutputArtifact::Report,
        ],
        layer_count: NonZero::<u8>::MIN,
        transfers: Transfers::default(),
        command: again::registration(args),
    };
    let violations = job.violations();
    if !violations.is_empty() {
        return Err(Error::Request(violations));
    }
    Ok(Done::Alignment(Box::new(pipeline::run(&job, reporter)?)))
}
