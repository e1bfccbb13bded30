//! What is wrong or doubtful in a text: where, why, and what to do.

use crate::source::{Source, Span};

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot be built.
    Error,
    /// It can, but not as it was meant.
    Warning,
    /// It could be better.
    Hint,
}

/// One message about a place in a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// `K0101` …
    pub code: &'static str,
    /// How grave.
    pub severity: Severity,
    /// One sentence.
    pub message: String,
    /// The text.
    pub source: Source,
    /// The place.
    pub span: Span,
    /// Stands at the caret; may be empty.
    pub label: String,
    /// What to type.
    pub help: Option<String>,
    /// More to know.
    pub notes: Vec<String>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            severity: Severity::Error,
            message: message.into(),
            source: Source::new("", ""),
            span: Span::default(),
            label: String::new(),
            help: None,
            notes: Vec::new(),
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, message) }
    }

    /// Where.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Span) -> Diagnostic {
        self.source = source.clone();
        self.span = span;
        self
    }

    /// At the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Diagnostic {
        self.label = label.into();
        self
    }

    /// What to type.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }

    /// More to know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.push(note.into());
        self
    }
}
