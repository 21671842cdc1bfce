//! `aligner depth`: the depth map of a segmentation, without a request file.

use alignment_api::{Labels, Stage};

use crate::{
    cli::DepthArgs,
    depth_map::{self, Files},
    error::Error,
    maps::MapFiles,
    memory,
    progress::Reporter,
    summary,
};

pub(super) fn depth(args: &DepthArgs, quiet: bool, reporter: &Reporter) -> Result<(), Error> {
    let labels = Labels {
        csf: args.csf.clone(),
        grey: args.grey.clone(),
        white: args.white.clone(),
    };
    let violations = alignment_api::validate_labels(&labels);
    if !violations.is_empty() {
        return Err(Error::Request(violations));
    }
    let files = Files {
        maps: MapFiles {
            depth: Some(args.output.clone()),
            validity: args.validity.clone(),
            thickness: args.thickness.clone(),
            layers: args.layers.clone().zip(args.layer_count),
        },
        page: args.report.clone(),
    };
    depth_map::enter(reporter, Stage::Load)?;
    let path = &args.segmentation;
    let mut subject = depth_map::load(path, &labels, &files, memory::limit())?;
    depth_map::enter(reporter, Stage::Depth)?;
    let maps = depth_map::compute(&mut subject, &files, reporter)?;
    if !quiet {
        let warnings = subject.inputs.warnings.iter();
        warnings.for_each(|warning| summary::warn(warning));
    }
    depth_map::enter(reporter, Stage::Write)?;
    depth_map::write(&files, &subject, &maps, reporter)?;
    reporter.end();
    Ok(())
}
