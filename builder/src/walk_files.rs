//! RUN, COPY and ADD of a stage: the instructions that make layers, checked before anything runs.

use std::collections::BTreeSet;

use grammar::{CommandLine, Copy, Diagnostic, Instruction, Located, Run, Span};

use crate::error::{Error, Result};
use crate::paths::{absolute, names_directory};
use crate::perform::SCRIPT_PATH;
use crate::plan::{CopyOp, CopySource, Network, Op, RunOp, StepId};
use crate::stages::Origin;
use crate::walk::StageWalk;

impl StageWalk<'_> {
    pub(crate) fn run(&mut self, run: &Run, located: &Located<Instruction>) -> Result<()> {
        self.refuse_run_flags(run, located.span)?;
        let (argv, script) = self.run_command(run);
        let network = match run.network.as_deref() {
            None | Some("default") => match self.options.network {
                runtime::NetworkMode::Host => Network::Host,
                _ => Network::None,
            },
            Some("none") => Network::None,
            Some("host") => Network::Host,
            Some(other) => {
                return Err(self
                    .at(located.span, "K0321", format!("unsupported network mode \"{other}\""))
                    .help("RUN --network takes default, none or host")
                    .into());
            }
        };
        let op = RunOp {
            env: self.scope.pairs().to_vec(),
            hidden_env: self.options.proxies(),
            cwd: self.state.working_dir().to_owned(),
            user: self.state.image.config.user.clone(),
            network,
            script,
            argv: argv.clone(),
        };
        self.layer(Op::Run(op), Vec::new(), located);
        self.state.record_layer(format!("RUN {}{} # buildkit", self.shown_args(), argv.join(" ")));
        Ok(())
    }

    fn refuse_run_flags(&self, run: &Run, span: Span) -> Result<()> {
        let refused = if !run.mounts.is_empty() {
            "--mount"
        } else if run.security.as_deref().is_some_and(|mode| mode != "sandbox") {
            "--security=insecure"
        } else if !run.devices.is_empty() {
            "--device"
        } else {
            return Ok(());
        };
        Err(self.at(span, "K0320", format!("RUN {refused} is not supported by this version of dunnage")).into())
    }

    /// The argument vector; a lone heredoc is the script itself, run by its `#!` interpreter when it names one.
    fn run_command(&self, run: &Run) -> (Vec<String>, Option<String>) {
        if let Some(heredoc) = run.script() {
            if heredoc.body.starts_with("#!") {
                let mut argv = self.state.shell();
                argv.push(SCRIPT_PATH.to_owned());
                return (argv, Some(heredoc.body.clone()));
            }
            let mut argv = self.state.shell();
            argv.push(heredoc.body.clone());
            return (argv, None);
        }
        let mut argv = self.command(&run.command);
        if let (CommandLine::Shell(_), Some(text)) = (&run.command, argv.last_mut()) {
            for heredoc in &run.heredocs {
                text.push('\n');
                text.push_str(&heredoc.body);
                text.push_str(&heredoc.name);
            }
        }
        (argv, None)
    }

    /// `|N A=v … `: the ARGs of the stage before a RUN, as history shows them.
    fn shown_args(&self) -> String {
        if self.args.is_empty() {
            return String::new();
        }
        let args: Vec<String> =
            self.args.iter().map(|arg| format!("{}={}", arg.name, arg.value.as_deref().unwrap_or_default())).collect();
        format!("|{} {} ", args.len(), args.join(" "))
    }

    pub(crate) fn copy(
        &mut self,
        copy: &Copy,
        index: Option<usize>,
        located: &Located<Instruction>,
        is_add: bool,
    ) -> Result<()> {
        let keyword = if is_add { "ADD" } else { "COPY" };
        self.refuse_copy_flags(copy, located.span, keyword)?;
        let (sources, shown) = self.copy_sources(copy, located.span, is_add)?;
        let written = self.expand(&copy.destination)?;
        let into_directory = names_directory(&written);
        if sources.len() > 1 && !into_directory {
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

    fn refuse_copy_flags(&self, copy: &Copy, span: Span, keyword: &str) -> Result<()> {
        let refused = if copy.checksum.is_some() {
            "--checksum"
        } else if copy.keep_git_dir.is_some() {
            "--keep-git-dir"
        } else {
            return Ok(());
        };
        Err(self.at(span, "K0330", format!("{keyword} {refused} is not supported by this version of dunnage")).into())
    }

    fn chmod(&self, copy: &Copy, span: Span) -> Result<Option<String>> {
        let Some(word) = &copy.chmod else { return Ok(None) };
        let text = self.expand(word)?;
        if text.is_empty() {
            return Ok(None);
        }
        match grammar::Chmod::parse(&text) {
            Ok(_) => Ok(Some(text)),
            Err(error) => Err(self.at(span, "K0332", format!("invalid --chmod value {text:?}: {error}")).into()),
        }
    }

    /// Sources as data, and as history shows them.
    fn copy_sources(&self, copy: &Copy, span: Span, is_add: bool) -> Result<(Vec<CopySource>, Vec<String>)> {
        let mut sources = Vec::new();
        let mut paths = Vec::new();
        let mut heredocs = Vec::new();
        for source in &copy.sources {
            match source {
                grammar::CopySource::Path(word, span) => {
                    let text = self.expand(word)?;
                    self.refuse_remote(&text, *span, is_add)?;
                    paths.push(text.clone());
                    sources.push(CopySource::Path(text));
                }
                grammar::CopySource::Heredoc(heredoc) => {
                    let content = if heredoc.expand {
                        grammar::expand_heredoc(&heredoc.body, self.dockerfile.escape, &self.scope)
                            .map_err(|error| {
                                Error::from(self.at(
                                    heredoc.span,
                                    "K0304",
                                    format!("failed to process the heredoc: {error}"),
                                ))
                            })?
                            .text
                    } else {
                        heredoc.body.clone()
                    };
                    heredocs.push(format!("<<{}", heredoc.name));
                    sources.push(CopySource::Inline { name: heredoc.name.clone(), content });
                }
            }
        }
        let unique: BTreeSet<&String> = heredocs.iter().collect();
        if unique.len() != heredocs.len() {
            return Err(self.at(span, "K0333", "two heredocs of one instruction have the same file name").into());
        }
        paths.extend(heredocs);
        Ok((sources, paths))
    }

    fn refuse_remote(&self, text: &str, span: Span, is_add: bool) -> Result<()> {
        let git = grammar::parse_git_url(text).is_some();
        if !git && !grammar::is_http_url(text) {
            return Ok(());
        }
        let kind = if git { "a git ref" } else { "a URL" };
        let diagnostic = if is_add {
            self.at(span, "K0334", format!("ADD of {kind} is not supported by this version of dunnage"))
                .help("fetch it in a RUN step, or before the build")
        } else {
            self.at(span, "K0335", format!("source can't be {kind} for COPY"))
        };
        Err(diagnostic.into())
    }

    /// Whether the files come from the context, and which step they come from otherwise.
    fn copy_input(&mut self, index: Option<usize>) -> Result<(bool, Vec<StepId>)> {
        let origin = index.and_then(|index| self.stages.inputs.get(self.stage.index)?.get(&index).cloned());
        let Some((span, origin)) = origin else { return Ok((true, Vec::new())) };
        match origin {
            Origin::Stage(stage) => match self.ends.get(&stage) {
                Some(end) => Ok((false, vec![end.head])),
                None => Err(Error::WorkerLost),
            },
            Origin::Scratch => Ok((false, vec![self.add_step(Op::Scratch, Vec::new(), "FROM scratch")])),
            Origin::Image(reference) => {
                let Some(image) = self.images.get(&reference) else {
                    return Err(self
                        .at(span, "K0310", format!("image `{}` was not opened", reference.familiar()))
                        .into());
                };
                let op = Op::Image { reference: reference.clone(), layers: image.layers.clone() };
                Ok((false, vec![self.add_step(op, Vec::new(), &format!("FROM {}", reference.familiar()))]))
            }
        }
    }

    pub(crate) fn at(&self, span: Span, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, message.into()).at(&self.dockerfile.source, span)
    }
}
