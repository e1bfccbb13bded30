//! Dunnage's own advice: what builds, and is slow, large or fragile.

use super::rule::Rule;
use crate::diagnostic::Diagnostic;
use crate::instruction::{CommandLine, Copy, CopySource, Instruction, Located, Run, Stage};
use crate::parse::Parsed;
use crate::source::{Source, Span};
use crate::syntax::{Arguments, Node};

/// Commands that install what a few files of the project name.
const INSTALLS: [&str; 14] = [
    "npm ci",
    "npm install",
    "yarn install",
    "pnpm install",
    "pip install -r",
    "pip3 install -r",
    "poetry install",
    "uv sync",
    "bundle install",
    "composer install",
    "go mod download",
    "cargo fetch",
    "dotnet restore",
    "mvn dependency:",
];
const BROKEN_JSON: &str = "this looks like a JSON array, but it is none";
/// Endings of what ADD unpacks.
const ARCHIVES: [&str; 9] = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"];

pub(super) fn check(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    let source = &parsed.dockerfile.source;
    found.extend(parsed.syntax.nodes.iter().filter_map(|node| broken_json(source, node)));
    for stage in &parsed.dockerfile.stages {
        found.extend(unpinned(source, stage, &parsed.dockerfile.stages));
        found.extend(copy_before_install(source, stage));
        let mut pipefail = false;
        for located in &stage.instructions {
            match &located.value {
                Instruction::Shell(shell) => pipefail = shell.iter().any(|word| word.contains("pipefail")),
                Instruction::Run(run) => run_hints(source, run, located, pipefail, found),
                Instruction::Add(add) => found.extend(plain_add(source, add)),
                _ => {}
            }
        }
    }
}

fn broken_json(source: &Source, node: &Node) -> Option<Diagnostic> {
    if !matches!(node.command().as_str(), "CMD" | "ENTRYPOINT" | "RUN" | "VOLUME" | "COPY" | "ADD") {
        return None;
    }
    let (text, span) = match &node.arguments {
        Arguments::Text(piece) => (piece.text.clone(), piece.span),
        Arguments::List(pieces) => {
            let texts: Vec<&str> = pieces.iter().map(|piece| piece.text.as_str()).collect();
            let span = Span::new(pieces.first()?.span.start, pieces.last()?.span.end);
            (texts.join(" "), span)
        }
        _ => return None,
    };
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    if matches!(node.arguments, Arguments::List(_)) && !inner.is_empty() {
        return Some(Rule::BrokenJsonForm.at(source, span, BROKEN_JSON));
    }
    // `[ "$a" = b ]` is a test of the shell, and meant as one.
    let is_list = inner.starts_with(['"', '\'']) && (inner.contains(',') || !inner.contains(char::is_whitespace));
    is_list.then(|| Rule::BrokenJsonForm.at(source, span, BROKEN_JSON))
}

fn unpinned(source: &Source, stage: &Stage, stages: &[Stage]) -> Option<Diagnostic> {
    let base = stage.base.raw();
    let is_stage = stages.iter().take(stage.index).any(|other| other.name.as_deref() == Some(base));
    if base.contains('$') || base == "scratch" || is_stage {
        return None;
    }
    let name = base.rsplit('/').next().unwrap_or(base);
    let message = match name.split_once(':') {
        Some((_, "latest")) => format!("`{base}` is whatever `latest` is today"),
        None if !name.contains('@') => format!("`{base}` has no version, so it is whatever `latest` is today"),
        _ => return None,
    };
    Some(Rule::UnpinnedBase.at(source, stage.base_span, message))
}

/// A COPY of everything, and an install behind it.
fn copy_before_install(source: &Source, stage: &Stage) -> Option<Diagnostic> {
    let copies_all = |copy: &Copy| {
        let all =
            |source: &CopySource| matches!(source, CopySource::Path(word, _) if [".", "./"].contains(&word.raw()));
        copy.from.is_none() && copy.sources.iter().any(all)
    };
    let mut instructions = stage.instructions.iter();
    let copy = instructions.find(
        |located| matches!(&located.value, Instruction::Copy(copy) | Instruction::Add(copy) if copies_all(copy)),
    )?;
    let (run, command) = instructions.find_map(|located| {
        let Instruction::Run(run) = &located.value else { return None };
        let text = text_of(run);
        INSTALLS.iter().find(|command| text.contains(*command)).map(|command| (located, *command))
    })?;
    let (line, _) = source.location(run.span.start);
    let message = format!("the whole context is copied before `{command}` of line {line}");
    Some(Rule::CopyBeforeInstall.at(source, copy.span, message))
}

/// An ADD that does what COPY does.
fn plain_add(source: &Source, add: &Copy) -> Option<Diagnostic> {
    let plain = |source: &CopySource| match source {
        CopySource::Path(word, _) => {
            let raw = word.raw().to_lowercase();
            let remote = raw.contains("://") || crate::git::GitSource::parse(&raw).is_some() || raw.contains('$');
            !remote && !raw.contains('*') && !ARCHIVES.iter().any(|ending| raw.ends_with(ending))
        }
        CopySource::Heredoc(_) => false,
    };
    // A directory may have any name; a name with an ending is a file.
    let file = add.sources.iter().filter(|source| plain(source)).find_map(|source| match source {
        CopySource::Path(word, span) if word.raw().rsplit('/').next().is_some_and(|name| name.contains('.')) => {
            Some((word.raw(), *span))
        }
        _ => None,
    });
    let (name, span) = file.filter(|(name, _)| ![".", "..", "./"].contains(name))?;
    Some(Rule::AddForLocalFile.at(source, span, format!("`{name}` is a plain file: ADD does no more than COPY here")))
}

fn text_of(run: &Run) -> String {
    let mut text = match &run.command {
        CommandLine::Shell(text) => text.clone(),
        CommandLine::Exec(argv) => argv.join(" "),
    };
    for heredoc in &run.heredocs {
        text.push('\n');
        text.push_str(&heredoc.content);
    }
    text
}

fn run_hints(source: &Source, run: &Run, located: &Located<Instruction>, pipefail: bool, found: &mut Vec<Diagnostic>) {
    let text = text_of(run);
    let mut hint = |rule: Rule, what: &str, message: String| {
        found.push(rule.at(source, place(source, located.span, what), message));
    };
    let apt = ["apt-get", "apt"].into_iter().find(|apt| {
        let behind =
            |at: usize| !text.get(..at).is_some_and(|head| head.ends_with(|c: char| c.is_alphanumeric() || c == '-'));
        [" install", " -y install", " -yq install", " -qq install", " -qqy install"]
            .iter()
            .any(|rest| text.find(&format!("{apt}{rest}")).is_some_and(behind))
    });
    let apt_mount =
        run.mounts.iter().any(|mount| mount.text.contains("/var/lib/apt") || mount.text.contains("/var/cache/apt"));
    if let Some(apt) = apt.filter(|_| !apt_mount) {
        let local = text.contains(".deb");
        if !text.contains(&format!("{apt} update")) && !has_update(&text) && !local {
            hint(Rule::AptGetInstallWithoutUpdate, apt, format!("`{apt} install` without an update in the same RUN"));
        } else if !text.contains("/var/lib/apt") {
            hint(Rule::AptListsLeft, apt, "the package lists are left in the layer".to_owned());
        }
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if first == "cd" && !text.contains(['&', ';', '|', '\n']) {
        hint(Rule::CdInRun, "cd", "this changes the directory for nothing".to_owned());
    }
    if text.split([' ', '\n', '\t', ';', '&', '(']).any(|word| word == "sudo") && !text.contains("install") {
        hint(Rule::SudoInRun, "sudo", "sudo in a RUN".to_owned());
    }
    let fetches = ["curl ", "wget "].into_iter().find(|tool| piped(&text, tool));
    if let Some(tool) = fetches.filter(|_| !pipefail && !text.contains("pipefail")) {
        hint(Rule::PipeHidesFailure, tool.trim(), format!("what `{}` fetches goes through a pipe", tool.trim()));
    }
}

/// `apt-get -qq update` and its like.
fn has_update(text: &str) -> bool {
    text.split(['&', ';', '\n', '|']).any(|part| {
        let mut words = part.split_whitespace().skip_while(|word| *word != "apt-get" && *word != "apt");
        words.next().is_some() && words.find(|word| !word.starts_with('-')).is_some_and(|word| word == "update")
    })
}

/// Whether a tool's output goes to a program that cannot tell that it failed.
fn piped(text: &str, tool: &str) -> bool {
    text.split(['\n', ';']).any(|line| {
        line.split("&&").any(|command| {
            let command = command.replace("||", "");
            command.find(tool).is_some_and(|at| command.get(at..).is_some_and(|rest| rest.contains('|')))
        })
    })
}

/// Where a word stands in an instruction; all of the instruction when it is not found as it is.
fn place(source: &Source, span: Span, what: &str) -> Span {
    let text = source.text().get(span.start..span.end).unwrap_or_default();
    match text.find(what) {
        Some(at) => Span::new(span.start + at, span.start + at + what.len()),
        None => span,
    }
}

#[cfg(test)]
mod tests {
    use crate::{Source, parse};

    fn codes(text: &str) -> Vec<&'static str> {
        let parsed = parse(&Source::new("Dockerfile", format!("FROM debian:12\n{text}\n")));
        super::super::lint(&parsed).into_iter().map(|diagnostic| diagnostic.code).collect()
    }

    #[test]
    fn each_hint_is_given_for_its_mistake() {
        for (text, code) in [
            ("RUN apt-get install -y gcc", "AptGetInstallWithoutUpdate"),
            ("RUN apt-get update && apt-get install -y gcc", "AptListsLeft"),
            ("RUN cd /src", "CdInRun"),
            ("RUN sudo make", "SudoInRun"),
            ("RUN curl -s https://x.invalid | tar x", "PipeHidesFailure"),
            ("ADD config.json /etc/", "AddForLocalFile"),
            ("COPY . /app\nRUN npm ci", "CopyBeforeInstall"),
            ("RUN ['a', 'b']", "BrokenJsonForm"),
            ("FROM debian", "UnpinnedBase"),
            ("FROM x.invalid:5000/debian:latest", "UnpinnedBase"),
        ] {
            assert_eq!(codes(text), [code], "{text}");
        }
    }

    #[test]
    fn what_is_right_gets_none() {
        for text in [
            "RUN apt-get -qq update && apt-get install -y gcc && rm -rf /var/lib/apt/lists/*",
            "RUN --mount=type=cache,target=/var/lib/apt apt-get install -y gcc",
            "RUN cd /src && make",
            "RUN set -o pipefail; curl -s https://x.invalid | tar x",
            "RUN curl -f https://x.invalid -o f || exit 3",
            "SHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN curl -s https://x.invalid | tar x",
            "ADD a.tar.gz /\nADD https://x.invalid/f.json /\nADD src /src",
            "COPY package.json /app/\nRUN npm ci\nCOPY . /app",
            "RUN [ \"$A\" = b ]\nRUN [ -f x ]",
            "FROM debian@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "FROM scratch AS a\nFROM a",
        ] {
            assert_eq!(codes(text), Vec::<&str>::new(), "{text}");
        }
    }
}
