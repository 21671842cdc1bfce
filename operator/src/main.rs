//! Runs `AlignmentRequest` resources as Kubernetes Jobs.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use operator::cli::{Cli, Command};
use operator::{crd, explain, run, static_data};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(arguments) => run::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Crd => {
            stdout().write_all(crd::schema::yaml()?.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::StaticData { command } => Ok(static_data::run(&command)),
        Command::Explain(arguments) => explain::explain(*arguments, &mut stdout(), &mut stderr()),
    }
}
