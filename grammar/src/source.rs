//! Source text with a name, and byte ranges of it.

use std::sync::Arc;

/// Text and the name that messages use for it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    inner: Arc<(String, String)>,
}

impl Source {
    /// A text under a name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source { inner: Arc::new((name.into(), text.into())) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.0
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.inner.1
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    pub fn location(&self, offset: usize) -> (usize, usize) {
        let before = self.text().get(..offset).unwrap_or(self.text());
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// A byte range of a source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Behind the last byte.
    pub end: usize,
}

impl Span {
    /// A range.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end }
    }
}
