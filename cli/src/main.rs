//! The `dunnage` command: arguments in, an engine verb, an exit code out.
#![forbid(unsafe_code)]

mod args;
mod command;
mod config;
mod ui;

use std::process::ExitCode;

fn main() -> ExitCode {
    ui::catch_panics();
    let (arguments, code_of_usage) = match args::parse() {
        Ok(parsed) => parsed,
        Err(code) => return code,
    };
    let code = command::dispatch(arguments).unwrap_or(code_of_usage);
    ExitCode::from(code)
}
