//! COPY and ADD of a stage, checked before anything runs.

use std::collections::BTreeSet;
use std::path::Path;

use cache::Digest;
use grammar::{Copy, Diagnostic, GitSource, Instruction, Located, Rule, Span};

use crate::error::{Error, Result};
use crate::paths::{absolute, clean, names_directory};
use crate::plan::{CopyOp, CopySource, Op, StepId};
use crate::sources::{HttpSource, name_of_url};
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
        let checksum = self.checksum(copy)?;
        let (sources, shown) = self.copy_sources(copy, located.span, is_add, checksum)?;
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
        let (from, inputs) = self.copy_input(index)?;
        let from_context = inputs.is_empty();
        if from_context && from.is_none() {
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
            context: from,
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

    /// `--checksum` names what a single source on the network must hold.
    fn checksum(&self, copy: &Copy) -> Result<Option<String>> {
        let Some(word) = &copy.checksum else { return Ok(None) };
        let text = self.expand(word)?;
        let help = "it is for one source on the network: `ADD --checksum=sha256:DIGEST https://… PATH`";
        let invalid = |message: String| Error::from(self.at(word.span(), "K0336", message).help(help));
        let [grammar::CopySource::Path(source, _)] = copy.sources.as_slice() else {
            return Err(invalid("checksum can't be specified for multiple sources".to_owned()));
        };
        let source = self.expand(source)?;
        if GitSource::parse(&source).is_some() {
            return Ok(Some(text));
        }
        if !grammar::is_http_url(&source) {
            return Err(invalid("checksum requires HTTP(S) or Git sources".to_owned()));
        }
        match text.parse::<Digest>() {
            Ok(_) => Ok(Some(text)),
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
    fn copy_sources(
        &mut self,
        copy: &Copy,
        span: Span,
        is_add: bool,
        checksum: Option<String>,
    ) -> Result<(Vec<CopySource>, Vec<String>)> {
        let mut sources = Vec::new();
        let mut paths = Vec::new();
        let mut heredocs = Vec::new();
        for source in &copy.sources {
            match source {
                grammar::CopySource::Path(word, span) => {
                    let text = self.expand(word)?;
                    let remote = self.remote(copy, &text, *span, is_add, checksum.as_deref())?;
                    sources.push(remote.unwrap_or_else(|| CopySource::Path(text.clone())));
                    paths.push(text);
                }
                grammar::CopySource::Heredoc(heredoc) => {
                    let content =
                        if heredoc.expand { self.expand_heredoc(heredoc, span)? } else { heredoc.body().into_owned() };
                    heredocs.push(format!("<<{}", heredoc.name));
                    sources.push(CopySource::Inline { name: heredoc.name.clone(), content });
                }
            }
        }
        if let Some((_, span)) = copy.keep_git_dir
            && !sources.iter().any(|source| matches!(source, CopySource::Git(_)))
        {
            let message = "--keep-git-dir is for a git source, and none of these is one";
            let help =
                "leave the flag out, or name a repository: `ADD --keep-git-dir https://HOST/PATH.git DESTINATION`";
            return Err(self.at(span, "K0337", message).help(help).into());
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

    /// A source on the network, which COPY refuses.
    fn remote(
        &self,
        copy: &Copy,
        text: &str,
        span: Span,
        is_add: bool,
        checksum: Option<&str>,
    ) -> Result<Option<CopySource>> {
        let git = GitSource::parse(text);
        let kind = match &git {
            Some(_) => "a git ref",
            None if grammar::is_http_url(text) => "a URL",
            None => return Ok(None),
        };
        if !is_add {
            let diagnostic = self.at(span, "K0335", format!("source can't be {kind} for COPY"));
            return Err(diagnostic.help("write ADD, which fetches").into());
        }
        let help = "write `https://HOST/PATH.git#REF:DIRECTORY`";
        let invalid = |cause: String| {
            Error::from(self.at(span, "K0337", format!("invalid git source {text:?}: {cause}")).help(help))
        };
        let Some(git) = git else {
            // `checksum` has made sure that it is a digest.
            let checksum = checksum.and_then(|text| text.parse().ok());
            let unpack = copy.unpack == Some(true);
            let source = HttpSource { url: text.to_owned(), name: name_of_url(text), checksum, unpack };
            return Ok(Some(CopySource::Url(source)));
        };
        let mut git = git.map_err(|error| invalid(error.to_string()))?;
        for checksum in checksum.iter().copied().chain(git.checksum.as_deref()) {
            if !(7..=64).contains(&checksum.len()) || !checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(invalid(format!("the checksum {checksum:?} is not the id of a commit, nor its beginning")));
            }
        }
        match (checksum, &git.checksum) {
            (Some(flag), Some(query)) if flag != query => {
                return Err(invalid(format!("--checksum={flag} contradicts its query {query:?}")));
            }
            (Some(flag), _) => git.checksum = Some(flag.to_owned()),
            (None, _) => {}
        }
        git.checksum = git.checksum.map(|checksum| checksum.to_ascii_lowercase());
        match (copy.keep_git_dir.map(|(keep, _)| keep), git.keep_git_dir) {
            (Some(flag), Some(query)) if flag != query => {
                return Err(invalid(format!("--keep-git-dir={flag} contradicts its query")));
            }
            (flag, query) => git.keep_git_dir = flag.or(query),
        }
        Ok(Some(CopySource::Git(git)))
    }

    /// The named context that the files come from, or the step; neither where they are the build context's.
    fn copy_input(&mut self, index: Option<usize>) -> Result<(Option<String>, Vec<StepId>)> {
        let inputs = self.stages.inputs.get(self.stage.index);
        let input = inputs.and_then(|inputs| inputs.iter().find(|input| Some(input.instruction) == index)).cloned();
        match input {
            Some(Input { origin: Origin::Named(name), .. }) => Ok((Some(name), Vec::new())),
            Some(input) => Ok((None, vec![self.input_step(&input)?])),
            None => Ok((None, Vec::new())),
        }
    }

    /// The step whose tree an input is. Files of a named context become one.
    pub(crate) fn input_step(&mut self, input: &Input) -> Result<StepId> {
        match &input.origin {
            Origin::Stage(stage) => match self.ends.get(stage) {
                Some(end) => Ok(end.head),
                None => Err(Error::WorkerLost),
            },
            Origin::Scratch => Ok(self.add_step(Op::Scratch, Vec::new(), "FROM scratch")),
            Origin::Named(name) => {
                let scratch = self.add_step(Op::Scratch, Vec::new(), "FROM scratch");
                Ok(self.add_step(Op::Copy(CopyOp::whole(name)), vec![scratch], &format!("context {name}")))
            }
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
