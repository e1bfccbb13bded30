//! COPY and ADD of a stage, checked before anything runs.

use std::collections::BTreeSet;
use std::path::Path;

use cache::Digest;
use grammar::{Copy, Diagnostic, GitSource, Instruction, Located, Rule, Span};

use crate::error::{Error, Result};
use crate::paths::{absolute, clean, names_directory};
use crate::plan::{CopyOp, CopySource, Op, StepId};
use crate::stages::{Input, Origin};
use crate::walk::StageWalk;

impl StageWalk<'_> {
    pub(crate) fn copy(
        &mut self,
        copy: &Copy,
        index: Option<usize>,
        located: &Located<Instruction>,
        is_add: bool,
    ) -> Result<()> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        let (sources, shown) = self.copy_sources(copy, located.span, is_add)?;
        self.checksum(copy)?;
        self.note_copy_flags(copy, located.span, keyword);
        let written = self.expand(&copy.destination)?;
        let into_directory = names_directory(&written);
        if sources.len() > 1 && !into_directory && !written.ends_with('\\') {
            return Err(self
                .at(
                    copy.destination_span,
                    "K0331",
                    format!("{keyword} of several sources needs a directory as its destination"),
                )
                .label("ends without a slash")
                .help(format!("write `{written}/`"))
                .into());
        }
        let chown = copy.chown.as_ref().map(|word| self.expand(word)).transpose()?.filter(|text| !text.is_empty());
        let chmod = self.chmod(copy, located.span)?;
        let (from_context, inputs) = self.copy_input(index)?;
        if from_context {
            self.warn_ignored(copy, &sources, keyword);
        }
        let mut message = keyword.to_owned();
        if copy.parents {
            message.push_str(" --parents");
        }
        for (flag, value) in [("chown", &chown), ("chmod", &chmod)] {
            if let Some(value) = value {
                message.push_str(&format!(" --{flag}={value}"));
            }
        }
        for source in shown {
            message.push(' ');
            message.push_str(&source);
        }
        let op = CopyOp {
            sources,
            from_context,
            destination: absolute(self.state.working_dir(), &written),
            into_directory,
            chown,
            chmod,
            exclude: copy.exclude.clone(),
            parents: copy.parents,
            link: copy.link,
            unpack: is_add && copy.unpack != Some(false),
        };
        self.layer(Op::Copy(op), inputs, located);
        self.state.record_layer(format!("{message} {written} # buildkit"));
        Ok(())
    }

    /// Sources that the ignore file keeps out of the context.
    fn warn_ignored(&self, copy: &Copy, sources: &[CopySource], keyword: &str) {
        let Some(rules) = &self.planner.only_checks else { return };
        for source in sources {
            let CopySource::Path(path) = source else { continue };
            let clean = clean(Path::new(path));
            let relative = clean.to_string_lossy();
            let relative = relative.trim_start_matches('/');
            if grammar::has_glob(path) || relative.is_empty() || !rules.is_ignored(relative) {
                continue;
            }
            let message = format!("Attempting to {keyword} file \"{path}\" that is excluded by .dockerignore");
            let span = copy.sources.first().map_or(copy.destination_span, |source| match source {
                grammar::CopySource::Path(_, span) => *span,
                grammar::CopySource::Heredoc(heredoc) => heredoc.span,
            });
            self.warn(Rule::CopyIgnoredFile.at(&self.dockerfile.source, span, message));
        }
    }

    fn note_copy_flags(&mut self, copy: &Copy, span: Span, keyword: &str) {
        let refused = if copy.checksum.is_some() {
            "--checksum"
        } else if copy.keep_git_dir.is_some() {
            "--keep-git-dir"
        } else {
            return;
        };
        let message = format!("{keyword} {refused} is not supported by this version of dunnage");
        self.planner.refuse(self.at(span, "K0330", message));
    }

    /// `--checksum` names what a single source on the network must hold.
    fn checksum(&self, copy: &Copy) -> Result<()> {
        let Some(word) = &copy.checksum else { return Ok(()) };
        let text = self.expand(word)?;
        let help = "it is for one source on the network: `ADD --checksum=sha256:DIGEST https://… PATH`";
        let invalid = |message: String| Error::from(self.at(word.span(), "K0336", message).help(help));
        let [grammar::CopySource::Path(source, _)] = copy.sources.as_slice() else {
            return Err(invalid("checksum can't be specified for multiple sources".to_owned()));
        };
        let source = self.expand(source)?;
        if GitSource::parse(&source).is_some() {
            return Ok(());
        }
        if !grammar::is_http_url(&source) {
            return Err(invalid("checksum requires HTTP(S) or Git sources".to_owned()));
        }
        match text.parse::<Digest>() {
            Ok(_) => Ok(()),
            Err(error) => Err(invalid(format!("invalid checksum {text:?}: {error}"))),
        }
    }

    fn chmod(&self, copy: &Copy, span: Span) -> Result<Option<String>> {
        let Some(word) = &copy.chmod else { return Ok(None) };
        let text = self.expand(word)?;
        if text.is_empty() {
            return Ok(None);
        }
        match grammar::Chmod::parse(&text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => {
                let diagnostic = self.at(span, "K0332", format!("invalid --chmod value {text:?}: {error}"));
                Err(diagnostic.help("write octal digits, as in 755, or letters, as in u=rwX,go=rX").into())
            }
        }
    }

    /// Sources as data, and as history shows them.
    fn copy_sources(&mut self, copy: &Copy, span: Span, is_add: bool) -> Result<(Vec<CopySource>, Vec<String>)> {
        let mut sources = Vec::new();
        let mut paths = Vec::new();
        let mut heredocs = Vec::new();
        for source in &copy.sources {
            match source {
                grammar::CopySource::Path(word, span) => {
                    let text = self.expand(word)?;
                    paths.push(text.clone());
                    if self.is_remote(&text, *span, is_add)? {
                        let message = "ADD of a URL or a git source is not supported by this version of dunnage";
                        let diagnostic = self.at(*span, "K0334", message);
                        self.planner.refuse(diagnostic.help("fetch it in a RUN step, or before the build"));
                    } else {
                        sources.push(CopySource::Path(text));
                    }
                }
                grammar::CopySource::Heredoc(heredoc) => {
                    let content =
                        if heredoc.expand { self.expand_heredoc(heredoc, span)? } else { heredoc.body().into_owned() };
                    heredocs.push(format!("<<{}", heredoc.name));
                    sources.push(CopySource::Inline { name: heredoc.name.clone(), content });
                }
            }
        }
        let unique: BTreeSet<&String> = heredocs.iter().collect();
        if unique.len() != heredocs.len() {
            let diagnostic = self.at(span, "K0333", "two heredocs of one instruction have the same file name");
            return Err(diagnostic.help("give each a name of its own").into());
        }
        paths.extend(heredocs);
        Ok((sources, paths))
    }

    fn expand_heredoc(&self, heredoc: &grammar::Heredoc, span: Span) -> Result<String> {
        match grammar::expand_heredoc(&heredoc.body(), self.dockerfile.escape, &self.scope) {
            Ok(expansion) => {
                self.warn_undefined(&expansion.unmatched, span);
                Ok(expansion.text)
            }
            Err(error) => {
                let message = format!("failed to process the heredoc: {error}");
                Err(self.at(heredoc.span, "K0304", message).help(error.help()).into())
            }
        }
    }

    /// Whether a source is on the network, which COPY refuses.
    fn is_remote(&self, text: &str, span: Span, is_add: bool) -> Result<bool> {
        let git = GitSource::parse(text);
        let kind = match &git {
            Some(_) => "a git ref",
            None if grammar::is_http_url(text) => "a URL",
            None => return Ok(false),
        };
        if !is_add {
            let diagnostic = self.at(span, "K0335", format!("source can't be {kind} for COPY"));
            return Err(diagnostic.help("write ADD, which fetches").into());
        }
        match git {
            Some(Err(error)) => {
                let diagnostic = self.at(span, "K0337", format!("invalid git source {text:?}: {error}"));
                Err(diagnostic.help("write `https://HOST/PATH.git#REF:DIRECTORY`").into())
            }
            _ => Ok(true),
        }
    }

    /// Whether the files come from the context, and which step they come from otherwise.
    fn copy_input(&mut self, index: Option<usize>) -> Result<(bool, Vec<StepId>)> {
        let inputs = self.stages.inputs.get(self.stage.index);
        let input = inputs.and_then(|inputs| inputs.iter().find(|input| Some(input.instruction) == index)).cloned();
        let Some(input) = input else { return Ok((true, Vec::new())) };
        Ok((false, vec![self.input_step(&input)?]))
    }

    /// The step whose tree a `--from` names.
    pub(crate) fn input_step(&mut self, input: &Input) -> Result<StepId> {
        match &input.origin {
            Origin::Stage(stage) => match self.ends.get(stage) {
                Some(end) => Ok(end.head),
                None => Err(Error::WorkerLost),
            },
            Origin::Scratch => Ok(self.add_step(Op::Scratch, Vec::new(), "FROM scratch")),
            Origin::Image(reference) => {
                let Some(image) = self.images.get(reference) else {
                    if self.planner.only_checks.is_some() {
                        return Ok(self.add_step(Op::Scratch, Vec::new(), "FROM scratch"));
                    }
                    return Err(self
                        .at(input.span, "K0310", format!("image `{}` was not opened", reference.familiar()))
                        .into());
                };
                let op = Op::Image { reference: reference.clone(), layers: image.layers.clone() };
                Ok(self.add_step(op, Vec::new(), &format!("FROM {}", reference.familiar())))
            }
        }
    }

    pub(crate) fn at(&self, span: Span, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message.into()).at(&self.dockerfile.source, span)
    }
}
