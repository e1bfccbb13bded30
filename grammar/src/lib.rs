//! The Dockerfile language: source text in, a typed tree and diagnostics out. Pure: no disk, no clock, no network.
#![forbid(unsafe_code)]

mod chmod;
mod device;
mod diagnostic;
mod git;
mod glob;
mod ignore;
mod instruction;
mod lines;
mod lint;
mod nearest;
mod parse;
mod pattern;
mod rules;
mod source;
mod syntax;
mod values;
mod word;

pub use chmod::Chmod;
pub use device::DeviceRequest;
pub use diagnostic::{Diagnostic, Severity};
pub use git::{GitSource, percent_decoded};
pub use glob::{glob_match, has_glob};
pub use ignore::{IgnoreRules, IgnoreVerdict};
pub use instruction::{
    ArgDeclaration, CommandLine, Copy, CopySource, Directive, Dockerfile, Healthcheck, Heredoc, Instruction, KeyValue,
    Located, Onbuild, Run, Stage,
};
pub use lint::{CheckChoice, Rule, RuleKind, is_secret, lint};
pub use nearest::nearest;
pub use parse::{Mount, MountFlag, MountKind, Parsed, Sharing, parse, parse_trigger};
pub use rules::comma_separated;
pub use source::{Source, Span};
pub use syntax::{Arguments, Flag, Node, Pair, Piece, Syntax, syntax};
pub use values::{ValueError, is_http_url, parse_bool, parse_duration, parse_port_spec, parse_signal, parse_size};
pub use word::{ExpandError, Expansion, Scope, Word, expand_heredoc};
