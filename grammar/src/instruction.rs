//! The tree of a Dockerfile: stages, instructions and their parts, each with its place.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::parse::MountFlag;
use crate::source::{Source, Span};
use crate::word::Word;

/// A whole file.
#[derive(Debug, Clone)]
pub struct Dockerfile {
    /// Its text.
    pub source: Source,
    /// `\`, or what the escape directive says.
    pub escape: char,
    /// Parser directives.
    pub directives: Vec<Directive>,
    /// ARG before the first FROM.
    pub global_args: Vec<Located<Vec<ArgDeclaration>>>,
    /// Stages in file order.
    pub stages: Vec<Stage>,
}

/// The text that it was read from, to the byte.
impl fmt::Display for Dockerfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.source.text())
    }
}

/// `# name=value` before anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// Lower-case.
    pub name: String,
    /// As written.
    pub value: String,
    /// The line.
    pub span: Span,
}

/// FROM and what follows it.
#[derive(Debug, Clone)]
pub struct Stage {
    /// Place in the file, from 0.
    pub index: usize,
    /// `AS name`, lower-cased.
    pub name: Option<String>,
    /// What it stands on.
    pub base: Word,
    /// `--platform`.
    pub platform: Option<Word>,
    /// The FROM instruction.
    pub span: Span,
    /// The base's name.
    pub base_span: Span,
    /// The FROM on one line.
    pub original: String,
    /// Its instructions.
    pub instructions: Vec<Located<Instruction>>,
}

/// Something with its place and its text on one line.
#[derive(Debug, Clone, PartialEq)]
pub struct Located<T> {
    /// The thing.
    pub value: T,
    /// Its place.
    pub span: Span,
    /// Continuations joined, as the user wrote it.
    pub original: String,
}

/// All instructions but FROM, which is the [`Stage`].
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are the language's keywords")]
pub enum Instruction {
    Add(Copy),
    Arg(Vec<ArgDeclaration>),
    Cmd(CommandLine),
    Copy(Copy),
    Entrypoint(CommandLine),
    Env(Vec<KeyValue>),
    Expose(Vec<Word>),
    Healthcheck(Healthcheck),
    Label(Vec<KeyValue>),
    Maintainer(String),
    Onbuild(Onbuild),
    Run(Run),
    Shell(Vec<String>),
    Stopsignal(Word),
    User(Word),
    Volume(Vec<Word>),
    Workdir(Word),
}

/// `NAME` or `NAME=default`.
#[derive(Debug, Clone, PartialEq)]
pub struct ArgDeclaration {
    /// The variable.
    pub name: String,
    /// Its default.
    pub default: Option<Word>,
    /// Its place.
    pub span: Span,
}

/// One pair of ENV or LABEL.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyValue {
    /// Left of the `=`.
    pub key: Word,
    /// Right of it.
    pub value: Word,
    /// Its place.
    pub span: Span,
}

/// RUN, CMD, ENTRYPOINT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine {
    /// For the SHELL; not expanded.
    Shell(String),
    /// A JSON array.
    Exec(Vec<String>),
}

/// RUN.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What to run; heredoc openers are still in the text.
    pub command: CommandLine,
    /// The bodies, in the order of their openers.
    pub heredocs: Vec<Heredoc>,
    /// `--mount`.
    pub mounts: Vec<MountFlag>,
    /// `--network`.
    pub network: Option<String>,
    /// `--security`.
    pub security: Option<String>,
    /// `--device`, not expanded.
    pub devices: Vec<Word>,
}

impl Run {
    /// The heredoc that is the whole command: its body is the script.
    pub fn script(&self) -> Option<&Heredoc> {
        let CommandLine::Shell(text) = &self.command else { return None };
        match self.heredocs.as_slice() {
            [only] if crate::lines::is_opener(text.trim()) => Some(only),
            _ => None,
        }
    }
}

/// `<<NAME` and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heredoc {
    /// The terminator.
    pub name: String,
    /// The lines up to it, as written.
    pub content: String,
    /// The name was not quoted.
    pub expand: bool,
    /// `<<-`.
    pub chomp: bool,
    /// `3<<NAME`; 0 when no number is given.
    pub fd: u32,
    /// The body's place.
    pub span: Span,
}

impl Heredoc {
    /// What a file of it holds: with `<<-` leading tabs are gone.
    pub fn body(&self) -> Cow<'_, str> {
        if !self.chomp {
            return Cow::Borrowed(&self.content);
        }
        self.content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect::<String>().into()
    }
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// `--from`, of COPY only.
    pub from: Option<Word>,
    /// What is copied.
    pub sources: Vec<CopySource>,
    /// Where to.
    pub destination: Word,
    /// Its place.
    pub destination_span: Span,
    /// `--chown`.
    pub chown: Option<Word>,
    /// `--chmod`.
    pub chmod: Option<Word>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// `--checksum`.
    pub checksum: Option<Word>,
    /// `--keep-git-dir`, and its place.
    pub keep_git_dir: Option<(bool, Span)>,
    /// `--unpack`.
    pub unpack: Option<bool>,
}

/// One source of COPY or ADD.
#[derive(Debug, Clone, PartialEq)]
pub enum CopySource {
    /// A path, and its place.
    Path(Word, Span),
    /// A file written in the Dockerfile.
    Heredoc(Heredoc),
}

/// HEALTHCHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Healthcheck {
    /// None, also not the base's.
    None,
    /// A probe.
    Test {
        /// What to run.
        command: CommandLine,
        /// `--interval`.
        interval: Option<Duration>,
        /// `--timeout`.
        timeout: Option<Duration>,
        /// `--start-period`.
        start_period: Option<Duration>,
        /// `--start-interval`.
        start_interval: Option<Duration>,
        /// `--retries`.
        retries: Option<u32>,
    },
}

/// ONBUILD.
#[derive(Debug, Clone, PartialEq)]
pub struct Onbuild {
    /// The text that the image keeps, with heredoc bodies.
    pub trigger: String,
    /// The same, parsed.
    pub instruction: Box<Instruction>,
}
