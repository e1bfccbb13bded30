//! COPY and ADD.

use super::{Reader, Result};
use crate::instruction::{Copy, CopySource};
use crate::lines;

const COPY: [&str; 6] = ["from", "chown", "chmod", "link", "parents", "exclude"];
const ADD: [&str; 7] = ["chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"];

impl Reader<'_> {
    pub(super) fn copy(self, keyword: &str) -> Result<Copy> {
        let flags = self.flags(if keyword == "ADD" { &ADD } else { &COPY })?;
        let words = self.words();
        let Some((destination, sources)) = words.split_last().filter(|(_, sources)| !sources.is_empty()) else {
            let message = format!(
                "{keyword} requires at least two arguments, but only one was provided. \
                 Destination could not be determined"
            );
            return Err(self.whole("K0119", message).help(format!("write `{keyword} SOURCE DESTINATION`")));
        };
        let mut heredocs = self.node.heredocs.iter();
        let source = |word: &crate::word::Word| match lines::opener(word.raw()).and_then(|_| heredocs.next()) {
            Some(heredoc) => CopySource::Heredoc(heredoc.clone()),
            None => CopySource::Path(word.clone(), word.span()),
        };
        Ok(Copy {
            from: flags.word("from"),
            sources: sources.iter().map(source).collect(),
            destination: destination.clone(),
            destination_span: destination.span(),
            chown: flags.word("chown"),
            chmod: flags.word("chmod"),
            link: flags.switch("link")?.unwrap_or(false),
            parents: flags.switch("parents")?.unwrap_or(false),
            exclude: flags.texts("exclude"),
            checksum: flags.word("checksum"),
            keep_git_dir: flags.switch("keep-git-dir")?.zip(flags.take("keep-git-dir").map(|flag| flag.span)),
            unpack: flags.switch("unpack")?,
        })
    }
}
