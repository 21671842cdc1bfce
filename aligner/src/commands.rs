//! What each command does: from its arguments to the library and back to text.

mod apply;
mod convert;
mod inspect;
mod register;

use std::{io::Write, sync::Arc};

use alignment_api::{Labels, Report};

use crate::{
    cli::{Cli, Command, DemoArgs, DepthArgs, NetworkArgs, PlaceArgs, RunArgs, ValidateArgs},
    depth,
    error::Error,
    io::{atomic, nifti},
    job::{self, Job, Mounts},
    load,
    net::{self, Network, policy::Policy, token::TokenFile},
    outputs, page, pipeline,
    progress::{ProgressMode, Reporter},
    summary,
};

/// Runs the command; the report is that of an alignment, if there was one.
///
/// # Errors
/// Whatever stopped the command.
pub fn execute(cli: &Cli, out: &mut dyn Write) -> Result<Option<Report>, Error> {
    let mode = if cli.global.quiet {
        ProgressMode::None
    } else {
        cli.global.progress
    };
    let reporter = Reporter::new(mode);
    let result = match &cli.command {
        Command::Run(args) => run(args, &reporter).map(Some),
        Command::Register(args) => register::register(args, &reporter).map(Some),
        Command::Demo(args) => demo(args, &reporter).map(Some),
        Command::Validate(args) => validate(args, out).map(|()| None),
        Command::Depth(args) => compute_depth(args, cli.global.quiet, &reporter).map(|()| None),
        Command::Apply(args) => apply::apply(args).map(|()| None),
        Command::Convert(args) => convert::convert(args).map(|()| None),
        Command::Inspect(args) => inspect::inspect(args, out).map(|()| None),
    };
    reporter.finish();
    if let (Ok(Some(report)), false, false) = (
        &result,
        cli.global.quiet,
        cli.global.progress == ProgressMode::Json,
    ) {
        // Either stream may be closed: the results are on the disk all the same.
        let _ = if reporter.writes_lines() {
            summary::print(report, &mut std::io::stderr())
        } else {
            summary::print(report, out)
        };
    }
    result
}

fn run(args: &RunArgs, reporter: &Reporter) -> Result<Report, Error> {
    let document = job::read_request(&args.request)?;
    let mounts = mounts(&args.places, network(&args.network)?);
    pipeline::run(&Job::from_request(&document, &mounts)?, reporter)
}

fn mounts(places: &PlaceArgs, network: Network) -> Mounts {
    Mounts {
        claims: places.claim.iter().cloned().collect(),
        templates: places.template.clone(),
        template_sha256: places.template_sha256.iter().cloned().collect(),
        network: Arc::new(network),
    }
}

fn network(args: &NetworkArgs) -> Result<Network, Error> {
    let mut network = Network {
        policy: Policy::new(&args.allow_origin, &args.allow_private_origin),
        token: args.token_file.clone().map(TokenFile),
        ..Network::default()
    };
    if let Some(path) = &args.ca_file {
        network.roots = net::read_authorities(path)
            .map_err(|problem| Error::Usage(format!("--ca-file {problem}")))?;
    }
    if let Some(bytes) = args.download_limit {
        network.limits.download_bytes = bytes;
    }
    Ok(network)
}

/// The bundled example is an ordinary request with its claims beside it.
fn demo(args: &DemoArgs, reporter: &Reporter) -> Result<Report, Error> {
    let data = args.examples.join("data");
    let run_args = RunArgs {
        request: args.examples.join("request.yaml"),
        places: PlaceArgs {
            claim: vec![
                ("patches".to_owned(), data.clone()),
                ("results".to_owned(), args.output.clone()),
            ],
            template: vec![("example".to_owned(), data.join("template_depth.nii.gz"))],
            template_sha256: Vec::new(),
        },
        network: NetworkArgs::default(),
    };
    run(&run_args, reporter)
}

fn validate(args: &ValidateArgs, out: &mut dyn Write) -> Result<(), Error> {
    let document = job::read_request(&args.request)?;
    let violations = alignment_api::validate(&document);
    if !violations.is_empty() {
        return Err(Error::Request(violations));
    }
    let request = args.request.display();
    if args.places.template.is_empty() {
        let _ = writeln!(out, "{request}: valid");
        return Ok(());
    }
    let job = Job::from_request(&document, &mounts(&args.places, Network::default()))?;
    let bytes = load::predict(&job)?;
    let mebibytes = bytes.div_ceil(1 << 20);
    let _ = writeln!(
        out,
        "{request}: valid; a run takes about {mebibytes} MiB of memory ({bytes} bytes)"
    );
    Ok(())
}

fn compute_depth(args: &DepthArgs, quiet: bool, reporter: &Reporter) -> Result<(), Error> {
    let labels = Labels {
        csf: args.csf.clone(),
        grey: args.grey.clone(),
        white: args.white.clone(),
    };
    let violations = alignment_api::validate_labels(&labels);
    if !violations.is_empty() {
        return Err(Error::Request(violations));
    }
    reporter.stage(alignment_api::Stage::Depth);
    let read = nifti::read_labels(&args.segmentation)
        .map_err(|source| Error::volume("segmentation", source))?;
    let tissues = depth::tissues_from_labels(&read.volume, &labels)?;
    let map = depth::compute(&tissues, reporter)?;
    let warnings = [read.header.warnings.clone(), map.warnings.clone()].concat();
    if !quiet {
        warnings.iter().for_each(|warning| summary::warn(warning));
    }
    outputs::write_depth(&args.output, &map.depth)?;
    if let Some(path) = &args.validity {
        outputs::write_validity(path, &map.validity)?;
    }
    if let Some(path) = &args.thickness {
        outputs::write_thickness(path, &map.thickness_mm())?;
    }
    if let Some(path) = &args.report {
        let name = args.segmentation.file_name().unwrap_or_default();
        let page = page::render_depth(&page::DepthSubject {
            name: &name.to_string_lossy(),
            sha256: &read.sha256,
            tissues: &tissues,
            map: &map,
            thickness_mm: &map.thickness_mm(),
            warnings: &warnings,
        });
        atomic::write(path, |out| out.write_all(page.as_bytes()))?;
    }
    if let (Some(path), Some(count)) = (&args.layers, args.layer_count) {
        let layers = depth::layers(&tissues, &map, count);
        outputs::write_layers(path, &layers, count.get())?;
    }
    Ok(())
}
