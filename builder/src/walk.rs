//! Reads one stage's instructions in order: words expanded, configuration changed, steps added.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use cache::{HealthConfig, Image, Platform, Reference};
use grammar::{
    ArgDeclaration, CommandLine, Diagnostic, Dockerfile, Healthcheck, Instruction, KeyValue, Located, Rule, Scope,
    Span, Stage, Word, nearest,
};

use crate::bases::BaseImages;
use crate::config::{ConfigState, describe_healthcheck};
use crate::error::{Error, Result};
use crate::options::{Options, PROXY_ARGS};
use crate::paths::absolute;
use crate::plan::{CopyOp, Op, Planner, StepId, WorkdirOp, label, name_of};
use crate::scope::{DeclaredArg, Variables};
use crate::stages::{Origin, Stages, expand_failed};

/// A stage at its end: what `FROM stage` and assembly go on from.
#[derive(Debug, Clone)]
pub(crate) struct StageEnd {
    pub(crate) head: StepId,
    /// Its name, or `stage-N`.
    pub(crate) stage: String,
    pub(crate) state: ConfigState,
    pub(crate) args: Vec<DeclaredArg>,
    pub(crate) scope: Variables,
    pub(crate) layer_steps: Vec<StepId>,
    pub(crate) warnings: Vec<Diagnostic>,
    pub(crate) workdir_set: bool,
    pub(crate) base_unknown: bool,
    pub(crate) files_platform: Platform,
}

/// One stage while it is read.
pub(crate) struct StageWalk<'a> {
    pub(crate) dockerfile: &'a Dockerfile,
    pub(crate) options: &'a Options,
    pub(crate) stages: &'a Stages,
    pub(crate) images: &'a BaseImages,
    pub(crate) planner: &'a mut Planner,
    pub(crate) ends: &'a BTreeMap<usize, StageEnd>,
    pub(crate) stage: &'a Stage,
    pub(crate) name: String,
    pub(crate) head: StepId,
    pub(crate) state: ConfigState,
    /// ENV and ARG as words and RUN see them.
    pub(crate) scope: Variables,
    pub(crate) args: Vec<DeclaredArg>,
    pub(crate) layer_steps: Vec<StepId>,
    triggers: Vec<String>,
    warnings: RefCell<Vec<Diagnostic>>,
    /// A WORKDIR of this file came before.
    workdir_set: bool,
    /// What the base image sets is not known.
    base_unknown: bool,
    /// What the stage is built for.
    platform: Platform,
    /// What the programs of its tree are made for, as far as the base image says.
    pub(crate) files_platform: Platform,
}

impl<'a> StageWalk<'a> {
    pub(crate) fn begin(
        dockerfile: &'a Dockerfile,
        options: &'a Options,
        stages: &'a Stages,
        images: &'a BaseImages,
        planner: &'a mut Planner,
        ends: &'a BTreeMap<usize, StageEnd>,
        stage: &'a Stage,
    ) -> Result<Self> {
        let name = name_of(stage);
        let origin = stages.origins.get(stage.index).unwrap_or(&Origin::Scratch);
        let platform = stages.platforms.get(stage.index).unwrap_or(&options.platform).clone();
        let mut walk = StageWalk {
            dockerfile,
            options,
            stages,
            images,
            planner,
            ends,
            stage,
            name,
            head: StepId(0),
            state: ConfigState::scratch(&platform),
            scope: Variables::default(),
            args: Vec::new(),
            layer_steps: Vec::new(),
            triggers: Vec::new(),
            warnings: RefCell::default(),
            workdir_set: false,
            base_unknown: false,
            files_platform: platform.clone(),
            platform,
        };
        walk.stand_on(origin)?;
        Ok(walk)
    }

    fn stand_on(&mut self, origin: &Origin) -> Result<()> {
        match origin {
            Origin::Scratch => self.head = self.add_step(Op::Scratch, Vec::new(), &self.stage.original.clone()),
            Origin::Image(reference) => {
                let Some(image) = self.images.get(reference) else {
                    if self.planner.only_checks.is_some() {
                        self.head = self.add_step(Op::Scratch, Vec::new(), &self.stage.original.clone());
                        self.base_unknown = true;
                        self.scope = Variables::from_env(&self.state.image.config.env);
                        return Ok(());
                    }
                    return Err(self.error("K0310", format!("base image `{}` was not opened", reference.familiar())));
                };
                let op = Op::Image { reference: reference.clone(), layers: image.layers.clone() };
                self.head = self.add_step(op, Vec::new(), &self.stage.original.clone());
                self.triggers.clone_from(&image.config.config.on_build);
                self.check_platform(reference, image);
                self.state = ConfigState::from_base(&image.config);
                let config = &image.config;
                if !config.architecture.is_empty() && !config.os.is_empty() {
                    let (os, architecture, variant) =
                        (config.os.clone(), config.architecture.clone(), config.variant.clone());
                    self.files_platform = Platform { os, architecture, variant };
                }
                if self.options.platform_given || self.stage.platform.is_some() {
                    self.state.image.os.clone_from(&self.platform.os);
                    self.state.image.architecture.clone_from(&self.platform.architecture);
                    self.state.image.variant.clone_from(&self.platform.variant);
                }
            }
            Origin::Named(name) => self.stand_on_files(name),
            Origin::Stage(parent) => {
                let Some(end) = self.ends.get(parent) else {
                    return Err(Error::WorkerLost);
                };
                self.head = end.head;
                self.triggers.clone_from(&end.state.image.config.on_build);
                self.state = ConfigState::from_stage(&end.state);
                self.args.clone_from(&end.args);
                self.scope = end.scope.clone();
                self.layer_steps.clone_from(&end.layer_steps);
                self.workdir_set = end.workdir_set;
                self.base_unknown = end.base_unknown;
                self.files_platform = end.files_platform.clone();
                return Ok(());
            }
        }
        self.scope = Variables::from_env(&self.state.image.config.env);
        Ok(())
    }

    /// A named context as a base: its files, and an empty configuration.
    fn stand_on_files(&mut self, name: &str) {
        let text = self.stage.original.clone();
        let scratch = self.add_step(Op::Scratch, Vec::new(), &text);
        self.head = self.add_step(Op::Copy(CopyOp::whole(name)), vec![scratch], &text);
        self.layer_steps.push(self.head);
        self.state.record_layer(format!("COPY / / # from the context {name}"));
    }

    /// Reads the base's triggers, then the stage's own instructions.
    pub(crate) fn read(&mut self) -> Result<()> {
        for text in std::mem::take(&mut self.triggers) {
            let located = grammar::parse_trigger(&text, self.stage.base_span).map_err(Error::Dockerfile)?;
            if let Instruction::Copy(copy) = &located.value
                && copy.from.is_some()
            {
                return Err(self.error("K0311", "an ONBUILD COPY --from of the base image is not supported"));
            }
            self.instruction(None, &located).map_err(|error| in_trigger(error, &text))?;
        }
        for (index, located) in self.stage.instructions.iter().enumerate() {
            self.instruction(Some(index), located)?;
        }
        Ok(())
    }

    /// What others go on from.
    pub(crate) fn end(self) -> StageEnd {
        StageEnd {
            head: self.head,
            stage: self.name,
            state: self.state,
            args: self.args,
            scope: self.scope,
            layer_steps: self.layer_steps,
            warnings: self.warnings.into_inner(),
            workdir_set: self.workdir_set,
            base_unknown: self.base_unknown,
            files_platform: self.files_platform,
        }
    }

    fn instruction(&mut self, index: Option<usize>, located: &Located<Instruction>) -> Result<()> {
        match &located.value {
            Instruction::Arg(declarations) => self.arg(declarations),
            Instruction::Env(pairs) => self.env(pairs),
            Instruction::Label(pairs) => self.label(pairs),
            Instruction::Cmd(command) => {
                let cmd = self.command(command);
                self.state.record(format!("CMD {}", quoted(&cmd)));
                self.state.set_cmd(cmd);
                Ok(())
            }
            Instruction::Entrypoint(command) => {
                let entrypoint = self.command(command);
                self.state.record(format!("ENTRYPOINT {}", quoted(&entrypoint)));
                self.state.set_entrypoint(entrypoint);
                Ok(())
            }
            Instruction::Shell(shell) => {
                self.state.record(format!("SHELL [{}]", shell.join(" ")));
                self.state.config().shell = Some(shell.clone());
                Ok(())
            }
            Instruction::Maintainer(name) => {
                self.state.image.author = Some(name.clone());
                self.state.record(format!("MAINTAINER {name}"));
                Ok(())
            }
            Instruction::Onbuild(onbuild) => {
                self.state.config().on_build.push(onbuild.trigger.clone());
                Ok(())
            }
            Instruction::User(word) => {
                let user = self.expand(word)?;
                self.state.record(format!("USER {user}"));
                self.state.config().user = user;
                Ok(())
            }
            Instruction::Stopsignal(word) => self.stopsignal(word),
            Instruction::Healthcheck(check) => self.healthcheck(check),
            Instruction::Expose(words) => self.expose(words),
            Instruction::Volume(words) => self.volume(words),
            Instruction::Workdir(word) => self.workdir(word, located),
            Instruction::Run(run) => self.run(run, index, located),
            Instruction::Copy(copy) => self.copy(copy, index, located, false),
            Instruction::Add(copy) => self.copy(copy, index, located, true),
        }
    }

    fn arg(&mut self, declarations: &[ArgDeclaration]) -> Result<()> {
        let mut shown = Vec::new();
        for declaration in declarations {
            let value = self.arg_value(declaration)?;
            if PROXY_ARGS.contains(&declaration.name.as_str()) {
                continue;
            }
            if let Some(value) = &value {
                self.scope.set(&declaration.name, value);
            }
            shown.push(match &value {
                Some(value) => format!("{}={value}", declaration.name),
                None => declaration.name.clone(),
            });
            let declared = DeclaredArg { name: declaration.name.clone(), value };
            match self.args.iter_mut().find(|arg| arg.name == declared.name) {
                Some(earlier) => *earlier = declared,
                None => self.args.push(declared),
            }
        }
        if !shown.is_empty() {
            self.state.record(format!("ARG {}", shown.join(" ")));
        }
        Ok(())
    }

    /// `--build-arg`, then the stage's default, then the global value, then the automatic one.
    fn arg_value(&self, declaration: &ArgDeclaration) -> Result<Option<String>> {
        if let Some(value) = self.options.build_args.get(&declaration.name) {
            return Ok(Some(value.clone()));
        }
        if let Some(word) = &declaration.default {
            return self.expand(word).map(Some);
        }
        if let Some(global) = self.stages.global.iter().rfind(|arg| arg.name == declaration.name) {
            return Ok(global.value.clone());
        }
        let target = self.dockerfile.stages.get(self.stages.target).map_or_else(String::new, name_of);
        Ok(self.options.automatic_args(&target).get(&declaration.name).cloned())
    }

    /// All pairs of one line see the values from before the line.
    fn env(&mut self, pairs: &[KeyValue]) -> Result<()> {
        let expanded = self.pairs(pairs)?;
        let shown: Vec<String> = expanded.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for (name, value) in &expanded {
            self.state.set_env(name, value);
            self.scope.set(name, value);
        }
        self.state.record(format!("ENV {}", shown.join(" ")));
        Ok(())
    }

    fn label(&mut self, pairs: &[KeyValue]) -> Result<()> {
        let expanded = self.pairs(pairs)?;
        let shown: Vec<String> = expanded.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.state.config().labels.extend(expanded);
        self.state.record(format!("LABEL {}", shown.join(" ")));
        Ok(())
    }

    fn pairs(&self, pairs: &[KeyValue]) -> Result<Vec<(String, String)>> {
        pairs.iter().map(|pair| Ok((self.expand(&pair.key)?, self.expand(&pair.value)?))).collect()
    }

    /// Shell form becomes the SHELL with the text behind it.
    pub(crate) fn command(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(argv) => argv.clone(),
            CommandLine::Shell(text) => {
                let mut argv = self.state.shell();
                argv.push(text.clone());
                argv
            }
        }
    }

    fn stopsignal(&mut self, word: &Word) -> Result<()> {
        let signal = self.expand(word)?;
        if let Err(error) = grammar::parse_signal(&signal) {
            let diagnostic = Diagnostic::error("K0312", error.to_string()).at(&self.dockerfile.source, word.span());
            return Err(diagnostic.help("write a signal's name, as in SIGTERM, or its number, 1 to 64").into());
        }
        self.state.record(format!("STOPSIGNAL {signal}"));
        self.state.config().stop_signal = Some(signal);
        Ok(())
    }

    fn healthcheck(&mut self, check: &Healthcheck) -> Result<()> {
        let health = match check {
            Healthcheck::None => HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() },
            Healthcheck::Test { command, interval, timeout, start_period, start_interval, retries } => {
                let test = match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandLine::Exec(argv) => {
                        let mut test = vec!["CMD".to_owned()];
                        test.extend(argv.iter().cloned());
                        test
                    }
                };
                HealthConfig {
                    test,
                    interval: nanos(*interval),
                    timeout: nanos(*timeout),
                    start_period: nanos(*start_period),
                    start_interval: nanos(*start_interval),
                    retries: *retries,
                    ..HealthConfig::default()
                }
            }
        };
        self.state.record(format!("HEALTHCHECK {}", describe_healthcheck(&health)));
        self.state.config().healthcheck = Some(health);
        Ok(())
    }

    fn expose(&mut self, words: &[Word]) -> Result<()> {
        let mut ports = Vec::new();
        for word in words {
            let texts = self.expand_words(word)?;
            for text in texts {
                self.check_port(&text, word);
                let parsed = grammar::parse_port_spec(&text).map_err(|error| {
                    let diagnostic = Diagnostic::error("K0313", error.to_string());
                    let help = "write PORT, FIRST-LAST or PORT/udp; ports are 1 to 65535";
                    Error::from(diagnostic.at(&self.dockerfile.source, word.span()).help(help))
                })?;
                ports.extend(parsed);
            }
        }
        ports.sort();
        ports.dedup();
        self.state.record(format!("EXPOSE [{}]", ports.join(" ")));
        for port in ports {
            self.state.config().exposed_ports.insert(port, cache::Empty {});
        }
        Ok(())
    }

    fn volume(&mut self, words: &[Word]) -> Result<()> {
        let mut volumes = Vec::new();
        for word in words {
            let text = self.expand(word)?;
            self.state.config().volumes.insert(text.clone(), cache::Empty {});
            volumes.push(text);
        }
        self.state.record(format!("VOLUME [{}]", volumes.join(" ")));
        Ok(())
    }

    fn workdir(&mut self, word: &Word, located: &Located<Instruction>) -> Result<()> {
        let text = self.expand(word)?;
        if !self.workdir_set && !text.starts_with('/') {
            let message = format!("Relative workdir {text:?} can have unexpected results if the base image changes");
            self.warn(Rule::WorkdirRelativePath.at(&self.dockerfile.source, located.span, message));
        }
        self.workdir_set = true;
        let path = absolute(self.state.working_dir(), &text);
        if path.starts_with("/proc") || path.starts_with("/sys") {
            let message = format!("{} cannot be a working directory: it belongs to the kernel", path.display());
            return Err(Diagnostic::error("K0315", message).at(&self.dockerfile.source, word.span()).into());
        }
        // An absolute path stays as it was written, as other builders keep it.
        let shown = if text.starts_with('/') { text } else { path.to_string_lossy().into_owned() };
        self.state.config().working_dir.clone_from(&shown);
        if path.parent().is_none() {
            self.state.record(format!("WORKDIR {shown}"));
            return Ok(());
        }
        let op = Op::Workdir(WorkdirOp { path, user: self.state.image.config.user.clone() });
        self.layer(op, Vec::new(), located);
        self.state.record_layer(format!("WORKDIR {shown}"));
        Ok(())
    }

    /// Adds a step on top of the head and makes it the head.
    pub(crate) fn layer(&mut self, op: Op, sources: Vec<StepId>, located: &Located<Instruction>) {
        let mut inputs = vec![self.head];
        inputs.extend(sources);
        let label = label(self.stage, &self.name, &located.original, located.span, self.options);
        let id = self.planner.add(op, inputs, label);
        self.head = id;
        self.layer_steps.push(id);
    }

    pub(crate) fn add_step(&mut self, op: Op, inputs: Vec<StepId>, text: &str) -> StepId {
        let label = label(self.stage, &self.name, text, self.stage.span, self.options);
        self.planner.add(op, inputs, label)
    }

    pub(crate) fn expand(&self, word: &Word) -> Result<String> {
        match word.expand(&self.scope) {
            Ok(expansion) => {
                self.warn_undefined(&expansion.unmatched, word.span());
                Ok(expansion.text)
            }
            Err(error) => Err(expand_failed(self.dockerfile, word, &error)),
        }
    }

    pub(crate) fn expand_words(&self, word: &Word) -> Result<Vec<String>> {
        match word.expand_words(&self.scope) {
            Ok((words, unmatched)) => {
                self.warn_undefined(&unmatched, word.span());
                Ok(words)
            }
            Err(error) => Err(expand_failed(self.dockerfile, word, &error)),
        }
    }

    pub(crate) fn warn(&self, diagnostic: Diagnostic) {
        self.warnings.borrow_mut().push(diagnostic);
    }

    /// Names without a value that no ARG declares either.
    pub(crate) fn warn_undefined(&self, names: &BTreeSet<String>, span: Span) {
        for name in names.iter().filter(|name| !self.args.iter().any(|arg| arg.name == **name)) {
            let global = self.stages.global.iter().map(|arg| arg.name.as_str());
            let is_global = global.clone().any(|known| known == name);
            let near = if is_global { None } else { nearest(name, global.chain(self.scope.names())) };
            let near = near.map_or_else(String::new, |near| format!(" (did you mean ${near}?)"));
            let message = format!("Usage of undefined variable '${name}'{near}");
            let mut diagnostic = Rule::UndefinedVar.at(&self.dockerfile.source, span, message);
            if is_global {
                diagnostic = diagnostic
                    .help(format!("an ARG above the first FROM is for FROM lines: write `ARG {name}` in this stage"));
            }
            if self.base_unknown {
                diagnostic = diagnostic.note("the base image is not in the store: what it sets is not known");
            }
            self.warn(diagnostic);
        }
    }

    fn check_port(&self, text: &str, word: &Word) {
        let source = &self.dockerfile.source;
        if text.contains(':') {
            let message =
                format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{text}'");
            self.warn(Rule::ExposeInvalidFormat.at(source, word.span(), message));
        }
        if text.split_once('/').is_some_and(|(_, protocol)| protocol != protocol.to_lowercase()) {
            let message = format!("Defined protocol '{text}' in EXPOSE instruction should be lowercase");
            self.warn(Rule::ExposeProtoCasing.at(source, word.span(), message));
        }
    }

    fn check_platform(&self, reference: &Reference, image: &Image) {
        let expected = &self.platform;
        let config = &image.config;
        if config.architecture.is_empty() || (config.os == expected.os && config.architecture == expected.architecture)
        {
            return;
        }
        let message = format!(
            "Base image {} was pulled with platform \"{}/{}\", expected \"{expected}\" for current build",
            reference.familiar(),
            config.os,
            config.architecture
        );
        self.warn(Rule::InvalidBaseImagePlatform.at(&self.dockerfile.source, self.stage.base_span, message));
    }

    fn error(&self, code: &'static str, message: impl Into<String>) -> Error {
        Diagnostic::error(code, message.into()).at(&self.dockerfile.source, self.stage.base_span).into()
    }
}

/// A mistake that the base brings along: the Dockerfile does not show it.
fn in_trigger(error: Error, text: &str) -> Error {
    let Error::Dockerfile(diagnostics) = error else { return error };
    let note = format!("it is in the base: ONBUILD {text}");
    Error::Dockerfile(diagnostics.into_iter().map(|diagnostic| diagnostic.note(note.as_str())).collect())
}

fn nanos(duration: Option<std::time::Duration>) -> Option<i64> {
    duration.and_then(|duration| i64::try_from(duration.as_nanos()).ok()).filter(|nanos| *nanos != 0)
}

/// `["a" "b"]`, the form in which history shows argument vectors.
fn quoted(argv: &[String]) -> String {
    let parts: Vec<String> = argv.iter().map(|arg| go_quote(arg)).collect();
    format!("[{}]", parts.join(" "))
}

fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
