//! Flags and commands of docker that this version does not have: they are refused by name, never ignored.

use std::ffi::OsString;

use clap::error::{ContextKind, ErrorKind};

/// Of `build`: those of buildx, and those of the builder before it.
const BUILD: [&str; 14] = [
    "--memory",
    "-m",
    "--memory-swap",
    "--cpu-shares",
    "-c",
    "--cpu-period",
    "--cpu-quota",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--isolation",
    "--security-opt",
    "--squash",
    "--builder",
    "--disable-content-trust",
];

/// Of `run` and `create`; those of Windows too.
const RUN: [&str; 10] = [
    "--kernel-memory",
    "--isolation",
    "--runtime",
    "--storage-opt",
    "--use-api-socket",
    "--disable-content-trust",
    "--cpu-count",
    "--cpu-percent",
    "--io-maxbandwidth",
    "--io-maxiops",
];

/// Commands of docker, and what there is for them.
const COMMANDS: [(&str, &str); 25] = [
    ("compose", "`run`, `network` and `volume` make what its files describe"),
    ("context", NO_DAEMON),
    ("plugin", NO_DAEMON),
    ("ls", "`dunnage info` tells what builds here"),
    ("use", "nothing has to be set up: `dunnage build` builds"),
    // Of buildx; containers have one.
    ("create", "nothing has to be set up: `dunnage build` builds"),
    ("inspect", "`dunnage info` tells what builds here"),
    ("history", "`dunnage builds` has the builds that were made"),
    ("imagetools", "`dunnage manifest` puts images of several platforms together and shows them"),
    ("du", "`dunnage system df -v` tells what the build cache holds"),
    ("dial-stdio", NO_DAEMON),
    ("swarm", ONE_MACHINE),
    ("service", ONE_MACHINE),
    ("stack", ONE_MACHINE),
    ("node", ONE_MACHINE),
    ("secret", ONE_MACHINE),
    ("config", ONE_MACHINE),
    ("trust", "digests are checked whenever something is pulled"),
    ("scout", "`dunnage build --sbom=true` says what is in an image"),
    ("sbom", "`dunnage build --sbom=true` says what is in an image"),
    ("init", "`dunnage check` helps with a Dockerfile of one's own"),
    ("checkpoint", "`pause` keeps a container where it is, `commit` keeps its files"),
    ("desktop", NO_DAEMON),
    ("model", ONE_MACHINE),
    ("extension", NO_DAEMON),
];
const NO_DAEMON: &str = "there is no daemon to choose or to extend";
const ONE_MACHINE: &str = "dunnage works on one machine";

/// The sentence on a command that docker has and this version has not.
pub(super) fn command(error: &clap::Error) -> Option<String> {
    let name = match error.kind() {
        ErrorKind::InvalidSubcommand => error.get(ContextKind::InvalidSubcommand)?.to_string(),
        _ => return None,
    };
    let (_, instead) = COMMANDS.iter().find(|(known, _)| *known == name)?;
    Some(format!("docker's `{name}` is not supported by this version of dunnage: {instead}"))
}

/// The commands whose mistakes docker has flags or an exit code of its own for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lacking {
    /// `build`, and what takes its flags.
    Build,
    /// `run` and `create`.
    Run,
    /// `exec`.
    Exec,
}

impl Lacking {
    /// The command that a command line is of, where it is one of these.
    pub(super) fn of(words: impl IntoIterator<Item = OsString>) -> Option<Lacking> {
        let (mut words, mut of_builder) = (words.into_iter().skip(1), false);
        while let Some(word) = words.next() {
            match word.to_str().unwrap_or_default() {
                // Their values are no commands.
                "--root" | "--color" => drop(words.next()),
                "build" | "plan" => return Some(Lacking::Build),
                "run" | "create" if !of_builder => return Some(Lacking::Run),
                "exec" => return Some(Lacking::Exec),
                "builder" | "buildx" => of_builder = true,
                // `image build`, in docker's long spelling.
                "image" | "container" => {}
                word if word.starts_with('-') => {}
                _ => return None,
            }
        }
        None
    }

    /// Whether docker has a flag that this version lacks.
    pub(super) fn lacks(self, flag: &str) -> bool {
        match self {
            Lacking::Build => BUILD.contains(&flag),
            Lacking::Run => RUN.contains(&flag),
            Lacking::Exec => false,
        }
    }

    /// Below 125 an exit code is that of the process.
    pub(super) fn starts_a_process(self) -> bool {
        self != Lacking::Build
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_flag_that_is_called_missing_is_missing() {
        let mut command = super::super::Arguments::command();
        command.build();
        for (name, flags) in [("build", &BUILD[..]), ("run", &RUN[..]), ("create", &RUN[..])] {
            let command = command.find_subcommand(name).unwrap();
            let has = |flag: &str| {
                command.get_arguments().any(|argument| match flag.strip_prefix("--") {
                    Some(long) => argument.get_long_and_visible_aliases().is_some_and(|all| all.contains(&long)),
                    None => argument.get_short().is_some_and(|short| flag == format!("-{short}")),
                })
            };
            assert!(has("--network"), "{name}: the question is not asked rightly");
            let there: Vec<&&str> = flags.iter().filter(|flag| has(flag)).collect();
            assert!(there.is_empty(), "{name} has {there:?}");
        }
    }

    #[test]
    fn the_command_is_found_behind_flags_and_in_the_long_spelling() {
        let of = |line: &str| Lacking::of(line.split(' ').map(OsString::from));
        assert_eq!(of("dunnage --root run build -t x run"), Some(Lacking::Build));
        assert_eq!(of("dunnage --color=never image build"), Some(Lacking::Build));
        assert_eq!(of("dunnage --root=x container create --pull"), Some(Lacking::Run));
        assert_eq!(of("dunnage images --memory"), None);
        assert_eq!((of("dunnage buildx build"), of("dunnage buildx create")), (Some(Lacking::Build), None));
    }
}
