//! Parses the command line, calls one verb, prints what went wrong, chooses the exit code.

use std::process::ExitCode;

use clap::Parser;
use distillery::cli::Cli;
use distillery::commands;

fn main() -> ExitCode {
    commands::call(Cli::parse().verb)
}
