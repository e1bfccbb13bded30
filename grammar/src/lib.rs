//! The Dockerfile language: source text in, a typed tree and diagnostics out. Pure: no disk, no clock, no network.
#![forbid(unsafe_code)]

mod chmod;
mod diagnostic;
mod glob;
mod ignore;
mod instruction;
mod lines;
mod nearest;
mod parse;
mod source;
mod values;
mod word;

pub use chmod::Chmod;
pub use diagnostic::{Diagnostic, Severity};
pub use glob::{glob_match, has_glob};
pub use ignore::{IgnoreRules, IgnoreVerdict};
pub use instruction::{
    ArgDeclaration, CommandLine, Copy, CopySource, Directive, Dockerfile, Healthcheck, Heredoc, Instruction, KeyValue,
    Located, MountFlag, Onbuild, Run, Stage,
};
pub use nearest::nearest;
pub use parse::{Parsed, parse, parse_trigger};
pub use source::{Source, Span};
pub use values::{ValueError, is_http_url, parse_duration, parse_git_url, parse_port_spec, parse_signal};
pub use word::{ExpandError, Expansion, Scope, Word, expand_heredoc};
