//! What each command does: from its arguments to the library and back to text.

mod apply;
mod convert;
mod depth;
mod inspect;
mod register;

use std::{io::Write, sync::Arc};

use alignment_api::KIND;

use crate::{
    cli::{Cli, Command, DemoArgs, NetworkArgs, PlaceArgs, RunArgs, ValidateArgs},
    error::Error,
    job::{self, Mounts},
    net::{
        self, Network,
        policy::Policy,
        token::{TokenFile, TokenSource},
    },
    progress::{ProgressMode, Reporter},
    summary,
    work::{self, Done, Work},
};

/// Runs the command; a request, or what amounts to one, has a result.
///
/// # Errors
/// Whatever stopped the command.
pub fn execute(cli: &Cli, out: &mut dyn Write) -> Result<Option<Done>, Error> {
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
        Command::Depth(args) => depth::depth(args, cli.global.quiet, &reporter).map(|()| None),
        Command::Apply(args) => apply::apply(args).map(|()| None),
        Command::Convert(args) => convert::convert(args).map(|()| None),
        Command::Inspect(args) => inspect::inspect(args, out).map(|()| None),
    };
    reporter.finish();
    if let (Ok(Some(done)), false, false) = (
        &result,
        cli.global.quiet,
        cli.global.progress == ProgressMode::Json,
    ) {
        // Either stream may be closed: the results are on the disk all the same.
        let _ = if reporter.writes_lines() {
            summary::print(done, &mut std::io::stderr())
        } else {
            summary::print(done, out)
        };
    }
    result
}

fn run(args: &RunArgs, reporter: &Reporter) -> Result<Done, Error> {
    let document = job::read_request(&args.request)?;
    let mounts = mounts(&args.places, network(&args.network)?);
    Work::from_request(&document, &mounts)?.run(reporter)
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
        token: args
            .token_file
            .clone()
            .map(|path| TokenSource::File(TokenFile(path))),
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
fn demo(args: &DemoArgs, reporter: &Reporter) -> Result<Done, Error> {
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
    let places = &args.places;
    let told = if document.spec.kind() == KIND {
        !places.template.is_empty()
    } else {
        !places.claim.is_empty()
    };
    // What lies elsewhere is not fetched to look at it.
    if !told || !work::is_local(&document.spec) {
        let _ = writeln!(out, "{request}: valid");
        return Ok(());
    }
    let mounts = mounts(places, Network::default());
    let bytes = Work::from_request(&document, &mounts)?.predict()?;
    let mebibytes = bytes.div_ceil(1 << 20);
    let _ = writeln!(
        out,
        "{request}: valid; a run takes about {mebibytes} MiB of memory ({bytes} bytes)"
    );
    Ok(())
}
