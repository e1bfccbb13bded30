//! What hands and scripts are used to from docker's command line, and clap does not read: `--rm=true`, `-it=false`, `-v`, `help run`.

use std::ffi::{OsStr, OsString};

use clap::Parser;
use clap::error::{ContextKind, ErrorKind};

use super::missing::Lacking;
use super::{Arguments, Often};

/// Docker's flag for signatures of its own registry, which are not looked at.
const TRUST: &str = "--disable-content-trust";

/// Parses a command line. One without such words is parsed once.
pub(super) fn read(mut words: Vec<OsString>) -> Result<Arguments, clap::Error> {
    first_word(&mut words);
    if let Some(arguments) = Often::read(&words) {
        return Ok(arguments);
    }
    loop {
        match Arguments::try_parse_from(&words) {
            // Each turn takes an `=` away, so there is a last one.
            Err(error) if takes_value_away(&error, &mut words) || asks_for_what_is_so(&error, &mut words) => {}
            result => return result,
        }
    }
}

fn first_word(words: &mut Vec<OsString>) {
    match words.get(1).and_then(|word| word.to_str()) {
        Some("-v") => words.splice(1..2, ["--version".into()]).for_each(drop),
        Some("help") => {
            words.remove(1);
            words.push("--help".into());
        }
        _ => {}
    }
}

/// A flag that is on or off was given a value: the word becomes the flag, or goes.
fn takes_value_away(error: &clap::Error, words: &mut Vec<OsString>) -> bool {
    let said = |kind| error.get(kind).map(ToString::to_string);
    let wanted = match (error.kind(), said(ContextKind::InvalidArg)) {
        (ErrorKind::TooManyValues, Some(flag)) => flag,
        // Of a cluster of letters, clap takes the `=` for one more.
        (ErrorKind::UnknownArgument, Some(flag)) if flag == "-=" => flag,
        _ => return false,
    };
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let (flag, value) = word.to_str()?.split_once('=')?;
        let is_cluster = flag.starts_with('-') && !flag.starts_with("--") && flag.len() > 1;
        (flag == wanted || is_cluster).then_some((at, flag.to_owned(), truth(value)?))
    });
    let Some((at, flag, on)) = found else { return false };
    let left: Option<&str> = match (on, flag.starts_with("--")) {
        (true, _) => Some(&flag),
        (false, true) => None,
        (false, false) => flag.get(..flag.len() - 1).filter(|letters| *letters != "-"),
    };
    words.splice(at..=at, left.map(|flag| OsStr::new(flag).to_owned())).for_each(drop);
    true
}

/// Flags for what is so anyway: nothing of a step stays, no context is sent that could be compressed, no signatures are
/// looked at.
fn asks_for_what_is_so(error: &clap::Error, words: &mut Vec<OsString>) -> bool {
    let Some(flag) = super::unknown_flag(error) else { return false };
    let is_so: &[&str] = match Lacking::of(words.iter().cloned()) {
        Some(Lacking::Build) => &["--rm", "--force-rm", "--compress", TRUST],
        Some(Lacking::Run) => &[TRUST],
        _ => &[],
    };
    if !is_so.contains(&flag.as_str()) {
        return false;
    }
    let found = words.iter().position(|word| word.to_str().is_some_and(|word| word.split('=').next() == Some(&flag)));
    let Some(at) = found else { return false };
    let value = words.get(at).and_then(|word| word.to_str()?.split_once('=')).map(|(_, value)| truth(value));
    // Signatures are not looked at, and who asks for that is told.
    if flag == TRUST && !matches!(value, None | Some(Some(true))) {
        return false;
    }
    words.remove(at);
    true
}

/// What docker takes for a truth value.
fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::args::{Command, RunArgs, Verb};

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        read(line.split(' ').map(OsString::from).collect()).map(|arguments| arguments.command)
    }

    fn run(line: &str) -> RunArgs {
        match parsed(line) {
            Ok(Command::Run(args)) => *args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_take_truth_values() {
        let args = run("dunnage run --rm=true --tty=false -i=0 --read-only=1 image --rm=false");
        assert!(args.create.rm && !args.create.tty && !args.create.interactive && args.create.mounts.read_only);
        assert_eq!(args.create.image_and_command(), ("image".to_owned(), vec!["--rm=false".to_owned()]));
        let args = run("dunnage run -it=false --sig-proxy=false image");
        assert!(args.create.interactive && !args.create.tty && !args.sig_proxy);
        assert!(run("dunnage run -dit=true --sig-proxy image").create.tty);
        assert!(parsed("dunnage run --rm=maybe image").is_err());
        assert!(parsed("dunnage build --rm --force-rm=true --compress -t x .").is_ok());
        assert!(parsed("dunnage build --disable-content-trust=false .").is_err());
        assert_eq!(
            run("dunnage run --disable-content-trust --rm image --compress").create.image_and_command().1.len(),
            1
        );
        assert!(parsed("dunnage run --disable-content-trust=false image").is_err());
        assert!(parsed("dunnage run --compress image").is_err());
        assert!(parsed("dunnage build --squash .").is_err());
        assert!(
            matches!(parsed("dunnage build --no-cache=true --pull=false ."), Ok(Command::Build(args)) if args.no_cache)
        );
    }

    #[test]
    fn commands_that_are_called_often_are_read_as_all_are() {
        let lines = [
            "dunnage run --root /r --rm -it -e A=1 -e B --name xx --color never image sh -c exit",
            "dunnage run --rm --rm -v /a:/b:ro -p 80:80 --network none -- image --help",
            "dunnage run image --root /r",
            "dunnage exec -it -u 1 box ls --help",
            "dunnage exec --color=always box ls",
            "dunnage build -q --no-cache -t a -t b --build-arg A=1 --root=/r .",
            "dunnage build -f - --progress=plain --target x -",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let all = Arguments::try_parse_from(&words).unwrap();
            assert_eq!(format!("{:?}", Often::read(&words).unwrap()), format!("{all:?}"), "{line}");
        }
        for line in [
            "run --help",
            "run --version",
            "run",
            "run --nonsense x",
            "build --help",
            "exec -h",
            "ps",
            "--root /r run x",
        ] {
            let words: Vec<OsString> = format!("dunnage {line}").split(' ').map(OsString::from).collect();
            assert!(Often::read(&words).is_none(), "{line}");
        }
    }

    #[test]
    fn the_last_of_two_rules() {
        let args = run("dunnage run --rm --rm --name aa --name bb --pull never --pull always image");
        assert_eq!(args.create.name.as_deref(), Some("bb"));
        assert_eq!(run("dunnage run -e A=1 -e A=2 image").create.env, ["A=1", "A=2"]);
    }

    #[test]
    fn what_stands_behind_the_image_is_the_containers() {
        for words in ["--help", "--version", "-c 5", "--rm --name x", "-- a", "-", "sh -c exit"] {
            let (image, command) = run(&format!("dunnage run --rm image {words}")).create.image_and_command();
            assert_eq!((image.as_str(), command.join(" ").as_str()), ("image", words));
        }
        assert_eq!(run("dunnage run -- image a").create.image_and_command().1, ["a"]);
        for (line, words) in [("-t box ls --help", "ls --help"), ("box -x", "-x"), ("box -- ls -l", "ls -l")] {
            let Ok(Command::Verb(Verb::Exec(args))) = parsed(&format!("dunnage exec {line}")) else { panic!("{line}") };
            assert_eq!(args.container_and_command(), ("box".to_owned(), words.split(' ').map(str::to_owned).collect()));
        }
        assert!(parsed("dunnage exec box").is_err() && parsed("dunnage run --rm").is_err());
    }

    #[test]
    fn help_and_the_version_are_asked_for_as_of_docker() {
        for (line, kind) in [
            ("dunnage -v", ErrorKind::DisplayVersion),
            ("dunnage help", ErrorKind::DisplayHelp),
            ("dunnage help container ls", ErrorKind::DisplayHelp),
        ] {
            assert_eq!(parsed(line).unwrap_err().kind(), kind, "{line}");
        }
    }
}
