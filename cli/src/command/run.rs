//! `dunnage run`, with the exit codes of `docker run`.

use std::path::{Path, PathBuf};

use engine::{ContainerSpec, RunRequest};

use super::{Failure, open_for_snapshots};
use crate::args::RunArgs;
use crate::{config, ui};

/// Most of a file of variables that is read.
const ENV_FILE_LIMIT: u64 = 1 << 20;

/// dunnage itself failed.
const TOOL_FAILED: u8 = 125;

pub(super) fn run(root: Option<PathBuf>, args: RunArgs) -> u8 {
    match perform(root, args) {
        Ok(code) => u8::try_from(code).unwrap_or(TOOL_FAILED),
        Err(Failure::Engine(error)) => {
            ui::error(&error.to_string());
            u8::try_from(error.run_exit_code()).unwrap_or(TOOL_FAILED)
        }
        Err(failure) => {
            ui::error(&failure.to_string());
            TOOL_FAILED
        }
    }
}

fn perform(root: Option<PathBuf>, args: RunArgs) -> Result<i32, Failure> {
    let (storage, pull, quiet) = (args.storage, args.pull, args.quiet);
    let request = request(args)?;
    let engine = open_for_snapshots(root, storage)?;
    super::registry::ensure(&engine, &request.spec.image, pull, quiet)?;
    Ok(engine.run(&request, &|sentence| ui::note(&sentence))?)
}

fn request(args: RunArgs) -> Result<RunRequest, Failure> {
    let mut env = Vec::new();
    for path in &args.env_file {
        env.extend(env_file(path)?);
    }
    env.extend(args.env.iter().map(|text| variable(text)));
    let mut limits = args.limits.spec();
    limits.device_rules = args.device_cgroup_rule;
    limits.cgroup_parent = args.cgroup_parent;
    let spec = ContainerSpec {
        image: args.image,
        command: args.command,
        env,
        volumes: args.volume,
        workdir: args.workdir,
        user: args.user,
        hostname: args.hostname,
        entrypoint: args.entrypoint,
        network: args.network.choice().map_err(Failure::Usage)?,
        ports: args.network.ports(config::publish_address().map_err(Failure::Usage)?),
        publish_all: args.network.publishes_all(),
        names: args.network.names(),
        interactive: args.interactive,
        tty: args.tty,
        remove: args.rm,
        read_only: args.read_only,
        init: args.init,
        privileged: args.privileged,
        limits,
    };
    Ok(RunRequest { name: args.name, spec })
}

/// `NAME` alone takes this process's value; where there is none the name stays bare, which takes the image's away.
fn variable(text: &str) -> String {
    match (text.contains('='), config::variable(text)) {
        (false, Some(value)) => format!("{text}={value}"),
        _ => text.to_owned(),
    }
}

/// A variable a line, taken as it stands: no quotes, no expansion; `#` begins a comment line.
fn env_file(path: &Path) -> Result<Vec<String>, Failure> {
    use std::io::Read;
    let cannot = |error| Failure::usage(format!("cannot read --env-file {}: {error}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path).map_err(cannot)?.take(ENV_FILE_LIMIT).read_to_string(&mut text).map_err(cannot)?;
    let mut variables = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start_matches('\u{feff}').trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split('=').next().unwrap_or_default();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(Failure::usage(format!("{}:{}: `{name}` is no name of a variable", path.display(), at + 1)));
        }
        variables.push(variable(line));
    }
    Ok(variables)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_taken_as_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# remark\n\nA=1\n  B=\"x y\"\nC=\n").unwrap();
        assert_eq!(env_file(file.path()).unwrap(), ["A=1", "B=\"x y\"", "C="]);
        std::fs::write(file.path(), "A=1\nB C=2\n").unwrap();
        assert!(env_file(file.path()).unwrap_err().to_string().contains(":2: `B C`"));
    }
}
