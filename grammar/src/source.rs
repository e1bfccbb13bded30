//! Source text with a name, and byte ranges of it.

use std::sync::{Arc, OnceLock};

/// Text and the name that messages use for it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Source {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    text: String,
    /// Where U+FFFD stands for bytes that are no UTF-8.
    replaced: Vec<usize>,
    /// Where lines begin; counted when somebody asks.
    lines: OnceLock<Vec<usize>>,
}

impl PartialEq for Source {
    fn eq(&self, other: &Source) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner) || (self.name() == other.name() && self.text() == other.text())
    }
}

impl Eq for Source {}

impl Source {
    /// A text under a name.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Source {
        Source::with(name.into(), text.into(), Vec::new())
    }

    /// A file's bytes under a name. What is no UTF-8 becomes U+FFFD, and is remembered.
    pub fn from_bytes(name: impl Into<String>, bytes: &[u8]) -> Source {
        let mut text = String::with_capacity(bytes.len());
        let mut replaced = Vec::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            if !chunk.invalid().is_empty() {
                replaced.push(text.len());
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Source::with(name.into(), text, replaced)
    }

    fn with(name: String, text: String, replaced: Vec<usize>) -> Source {
        Source { inner: Arc::new(Inner { name, text, replaced, lines: OnceLock::new() }) }
    }

    /// Where in the text U+FFFD stands for bytes that are no UTF-8, ascending.
    pub fn replaced(&self) -> &[usize] {
        &self.inner.replaced
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.inner.text
    }

    /// Line and column (in characters) of a byte offset, both from 1.
    pub fn location(&self, offset: usize) -> (usize, usize) {
        let lines = self
            .inner
            .lines
            .get_or_init(|| std::iter::once(0).chain(self.text().match_indices('\n').map(|(at, _)| at + 1)).collect());
        let offset = offset.min(self.text().len());
        let line = lines.partition_point(|start| *start <= offset);
        let start = lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text().get(start..offset).map_or(0, |before| before.chars().count());
        (line, column + 1)
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
