//! The `dunnage` command: arguments in, an engine verb, an exit code out.
#![forbid(unsafe_code)]

mod args;
mod command;
mod config;
mod ui;

use std::process::ExitCode;

/// A defect of dunnage: EX_SOFTWARE of sysexits.h.
const DEFECT: u8 = 70;

fn main() -> ExitCode {
    ui::defect::report_panics();
    if args::starts_containers() {
        engine::seal_program(&std::env::args_os().collect::<Vec<_>>());
    }
    let called = match args::parse_called() {
        Ok(called) => called,
        Err(code) => return code,
    };
    // Unwinding runs the destructors that give mounts, leases and drafts back.
    let code = std::panic::catch_unwind(|| match called {
        args::Called::Dunnage(arguments) => command::dispatch(*arguments),
        args::Called::Oci(arguments) => command::oci(*arguments),
    })
    .unwrap_or(DEFECT);
    ExitCode::from(code)
}
