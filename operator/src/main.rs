//! Runs `AlignmentRequest` and `DepthMapRequest` resources as Kubernetes Jobs.

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::Parser;
use operator::cli::{Cli, Command};
use operator::request::Kind;
use operator::{crd, explain, gateway, run, static_data};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(arguments) => run::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::Crd => {
            for kind in Kind::ALL {
                write!(stdout(), "---\n{}", crd::schema::yaml(kind)?)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Gateway(arguments) => gateway::run(*arguments).map(|()| ExitCode::SUCCESS),
        Command::StaticData { command } => Ok(static_data::run(&command)),
        Command::Explain(arguments) => explain::explain(*arguments, &mut stdout(), &mut stderr()),
    }
}
