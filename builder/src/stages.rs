//! Which stage stands on which: FROM and `--from` names resolved, the target chosen, cycles refused.
//!
//! FROM sees earlier stages only, by exact name; `COPY --from` and mounts see every stage, without regard to case,
//! and indexes too. A name that is no stage is an image.

use cache::{Platform, Reference};
use grammar::{Diagnostic, Dockerfile, ExpandError, Instruction, MountFlag, Scope, Span, Stage, Word, nearest};

use crate::doubts;
use crate::error::{Error, Result};
use crate::options::{NamedContext, Options};
use crate::scope::{DeclaredArg, Variables, global_scope};

/// Where a stage, or a `--from`, takes its files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// `FROM scratch`.
    Scratch,
    /// Another stage of the file, by index.
    Stage(usize),
    /// An image of the store or a registry.
    Image(Reference),
    /// The files of a named context.
    Named(String),
}

/// Where an instruction takes files from, when it is not the context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// The instruction's index in its stage.
    pub(crate) instruction: usize,
    pub(crate) span: Span,
    pub(crate) origin: Origin,
}

/// The stages of a file with their names resolved.
#[derive(Debug)]
pub(crate) struct Stages {
    /// What each stage's FROM names.
    pub(crate) origins: Vec<Origin>,
    /// What each stage is built for.
    pub(crate) platforms: Vec<Platform>,
    /// What each stage's instructions take from elsewhere: `--from`, and `from` of mounts.
    pub(crate) inputs: Vec<Vec<Input>>,
    /// Global ARGs with their values.
    pub(crate) global: Vec<DeclaredArg>,
    /// The stage to build.
    pub(crate) target: usize,
    /// Indexes of the stages that the target needs, dependencies first.
    pub(crate) order: Vec<usize>,
}

impl Stages {
    /// What is doubtful in a FROM is added to `warnings`, also when another one is wrong.
    pub(crate) fn resolve(
        dockerfile: &Dockerfile,
        options: &Options,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Stages> {
        let target = target_index(dockerfile, options)?;
        let target_name = dockerfile.stages.get(target).map_or_else(String::new, stage_label);
        let (global, scope) = globals(dockerfile, options, &target_name)?;
        let mut origins = Vec::new();
        let mut platforms: Vec<Platform> = Vec::new();
        let mut inputs = Vec::new();
        doubts::check(dockerfile, options, &global, &scope, warnings);
        for stage in &dockerfile.stages {
            let (origin, platform) = stage_origin(dockerfile, stage, options, &scope)?;
            let parent = match &origin {
                Origin::Stage(parent) => platforms.get(*parent).cloned(),
                _ => None,
            };
            platforms.push(platform.or(parent).unwrap_or_else(|| options.platform.clone()));
            origins.push(origin);
            inputs.push(stage_inputs(dockerfile, stage, options, &scope)?);
        }
        let mut stages = Stages { origins, platforms, inputs, global, target, order: Vec::new() };
        stages.order = stages.reachable(dockerfile)?;
        Ok(stages)
    }

    fn needs(&self, stage: usize) -> Vec<(usize, Option<Span>)> {
        let mut needs = Vec::new();
        if let Some(Origin::Stage(base)) = self.origins.get(stage) {
            needs.push((*base, None));
        }
        for input in self.inputs.get(stage).into_iter().flatten() {
            if let Origin::Stage(index) = input.origin {
                needs.push((index, Some(input.span)));
            }
        }
        needs
    }

    /// Depth first from the target; a stage met again on the way down is a cycle.
    fn reachable(&self, dockerfile: &Dockerfile) -> Result<Vec<usize>> {
        let mut order = Vec::new();
        let mut state = vec![Visit::New; dockerfile.stages.len()];
        let mut stack = vec![(self.target, self.needs(self.target).into_iter())];
        mark(&mut state, self.target, Visit::Open);
        while let Some((stage, rest)) = stack.last_mut() {
            let stage = *stage;
            let Some((need, span)) = rest.next() else {
                mark(&mut state, stage, Visit::Done);
                order.push(stage);
                stack.pop();
                continue;
            };
            match state.get(need) {
                Some(Visit::New) => {
                    mark(&mut state, need, Visit::Open);
                    stack.push((need, self.needs(need).into_iter()));
                }
                Some(Visit::Open) => return Err(cycle(dockerfile, stage, need, span)),
                Some(Visit::Done) | None => {}
            }
        }
        Ok(order)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Done,
}

fn mark(state: &mut [Visit], stage: usize, visit: Visit) {
    if let Some(slot) = state.get_mut(stage) {
        *slot = visit;
    }
}

/// The name that messages and progress use for a stage.
pub(crate) fn stage_label(stage: &Stage) -> String {
    stage.name.clone().unwrap_or_else(|| format!("stage-{}", stage.index))
}

fn cycle(dockerfile: &Dockerfile, from: usize, to: usize, span: Option<Span>) -> Error {
    let name = |index: usize| dockerfile.stages.get(index).map_or_else(|| index.to_string(), stage_label);
    let span = span.or_else(|| dockerfile.stages.get(from).map(|stage| stage.span)).unwrap_or_default();
    let mut diagnostic = Diagnostic::error("K0302", format!("circular dependency detected on stage: {}", name(to)))
        .at(&dockerfile.source, span)
        .label(format!("stage `{}` needs stage `{}` here", name(from), name(to)));
    if from != to {
        diagnostic = diagnostic.note(format!("stage `{}` needs stage `{}` in turn", name(to), name(from)));
    }
    diagnostic.help("make what both need in a stage of its own").into()
}

fn target_index(dockerfile: &Dockerfile, options: &Options) -> Result<usize> {
    let Some(last) = dockerfile.stages.len().checked_sub(1) else {
        let span = dockerfile.global_args.last().map(|arg| arg.span).unwrap_or_default();
        return Err(Diagnostic::error("K0301", "the Dockerfile contains no stages to build")
            .at(&dockerfile.source, span)
            .help("begin it with a FROM line: `FROM scratch` needs no base image")
            .into());
    };
    let Some(wanted) = &options.target else { return Ok(last) };
    let lower = wanted.to_lowercase();
    if let Some(index) = find_stage(&dockerfile.stages, &lower) {
        return Ok(index);
    }
    if let Some(index) = wanted.parse::<usize>().ok().filter(|index| *index <= last) {
        return Ok(index);
    }
    let names: Vec<&str> = dockerfile.stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    let span = dockerfile.stages.get(last).map(|stage| stage.span).unwrap_or_default();
    let mut diagnostic = Diagnostic::error("K0303", format!("target stage `{wanted}` not found"))
        .at(&dockerfile.source, span)
        .label("the last stage of the file");
    diagnostic = match nearest(&lower, names.iter().copied()) {
        Some(name) => diagnostic.help(format!("did you mean `--target {name}`?")),
        None if names.is_empty() => diagnostic.help("no stage of this file has a name: add `AS NAME` to its FROM line"),
        None => diagnostic.help(format!("the stages are: {}", names.join(", "))),
    };
    Err(diagnostic.into())
}

/// The last stage of that name: a later one shadows.
fn find_stage(stages: &[Stage], lower: &str) -> Option<usize> {
    stages.iter().rposition(|stage| stage.name.as_deref() == Some(lower))
}

pub(crate) fn globals(
    dockerfile: &Dockerfile,
    options: &Options,
    target_name: &str,
) -> Result<(Vec<DeclaredArg>, Variables)> {
    let automatic = options.automatic_args(target_name);
    let mut declared: Vec<DeclaredArg> = Vec::new();
    for line in &dockerfile.global_args {
        for arg in &line.value {
            let value = match options.build_args.get(&arg.name) {
                Some(value) => Some(value.clone()),
                None => match &arg.default {
                    Some(word) => {
                        let scope = global_scope(&automatic, &declared);
                        Some(expand(dockerfile, word, &scope)?)
                    }
                    None => automatic.get(&arg.name).cloned(),
                },
            };
            declared.push(DeclaredArg { name: arg.name.clone(), value });
        }
    }
    let mut automatic = automatic;
    for (name, value) in &options.build_args {
        if let Some(slot) = automatic.get_mut(name) {
            slot.clone_from(value);
        }
    }
    let scope = global_scope(&automatic, &declared);
    Ok((declared, scope))
}

/// Expands a word; a failure becomes a diagnostic at the word.
pub(crate) fn expand(dockerfile: &Dockerfile, word: &Word, scope: &dyn Scope) -> Result<String> {
    match word.expand(scope) {
        Ok(expansion) => Ok(expansion.text),
        Err(error) => Err(expand_failed(dockerfile, word, &error)),
    }
}

pub(crate) fn expand_failed(dockerfile: &Dockerfile, word: &Word, cause: &ExpandError) -> Error {
    Diagnostic::error("K0304", format!("failed to process {:?}: {cause}", word.raw()))
        .at(&dockerfile.source, word.span())
        .help(cause.help())
        .into()
}

/// What a FROM names, and the platform that it asks for.
fn stage_origin(
    dockerfile: &Dockerfile,
    stage: &Stage,
    options: &Options,
    scope: &Variables,
) -> Result<(Origin, Option<Platform>)> {
    let name = expand(dockerfile, &stage.base, scope)?;
    if name.is_empty() {
        let raw = stage.base.raw();
        return Err(Diagnostic::error("K0305", format!("base name ({raw}) should not be blank"))
            .at(&dockerfile.source, stage.base_span)
            .label("expands to nothing")
            .help("declare the ARG before the first FROM with a default, or pass --build-arg")
            .into());
    }
    let mut asked = None;
    if let Some(platform) = &stage.platform {
        let text = expand(dockerfile, platform, scope)?;
        match text.parse::<Platform>() {
            Ok(platform) => asked = Some(platform),
            Err(error) => {
                return Err(Diagnostic::error(
                    "K0306",
                    format!("failed to parse platform {}: {error}", platform.raw()),
                )
                .at(&dockerfile.source, platform.span())
                .help("write os/architecture, as in `linux/amd64`; what FROM sees is declared before the first FROM")
                .into());
            }
        }
    }
    if name == "scratch" {
        return Ok((Origin::Scratch, asked));
    }
    if let Some(origin) = named_origin(dockerfile, options, &name, stage.index, stage.base_span)? {
        return Ok((origin, asked));
    }
    let earlier = dockerfile.stages.get(..stage.index).unwrap_or_default();
    if let Some(index) = find_stage(earlier, &name) {
        return Ok((Origin::Stage(index), asked));
    }
    Ok((image_origin(dockerfile, &name, stage.base_span, earlier)?, asked))
}

/// What a `--build-context` puts in the place of a name.
fn named_origin(
    dockerfile: &Dockerfile,
    options: &Options,
    name: &str,
    here: usize,
    span: Span,
) -> Result<Option<Origin>> {
    let Some((key, context)) = options.context(name) else { return Ok(None) };
    match context {
        NamedContext::Files => Ok(Some(Origin::Named(key.to_owned()))),
        NamedContext::Image(reference) => Ok(Some(Origin::Image(reference.clone()))),
        NamedContext::Stage(stage) => {
            let index = find_stage(&dockerfile.stages, &stage.to_lowercase())
                .or_else(|| stage.parse().ok().filter(|index| *index < dockerfile.stages.len()));
            match index {
                Some(index) if index != here => Ok(Some(Origin::Stage(index))),
                _ => {
                    Err(Diagnostic::error("K0314", format!("--build-context {key}: there is no other stage `{stage}`"))
                        .at(&dockerfile.source, span)
                        .help("name a stage of this Dockerfile after `target:`")
                        .into())
                }
            }
        }
    }
}

fn image_origin(dockerfile: &Dockerfile, name: &str, span: Span, stages: &[Stage]) -> Result<Origin> {
    match name.parse::<Reference>() {
        Ok(reference) => Ok(Origin::Image(reference)),
        Err(error) => {
            let diagnostic = Diagnostic::error("K0307", format!("failed to parse stage name \"{name}\": {error}"))
                .at(&dockerfile.source, span);
            let known = find_stage(stages, &name.to_lowercase()).and_then(|index| stages.get(index)).map(stage_label);
            let help = match known {
                Some(known) => format!("FROM is case-sensitive: the stage is named `{known}`"),
                None => "images are named [registry/]path[:tag][@digest], with a path in lower case".to_owned(),
            };
            Err(diagnostic.help(help).into())
        }
    }
}

fn stage_inputs(dockerfile: &Dockerfile, stage: &Stage, options: &Options, scope: &Variables) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for (instruction, located) in stage.instructions.iter().enumerate() {
        let words: Vec<Word> = match &located.value {
            Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
            Instruction::Run(run) => {
                let from = |mount: &MountFlag| Some(Word::new(mount.from()?, mount.escape, mount.span));
                run.mounts.iter().filter_map(from).collect()
            }
            _ => Vec::new(),
        };
        for word in words {
            let origin = input_origin(dockerfile, stage, &word, options, scope)?;
            inputs.push(Input { instruction, span: located.span, origin });
        }
    }
    Ok(inputs)
}

/// `--from=`: an index, a stage name, an image. Unlike BuildKit's, it may hold global ARGs.
fn input_origin(
    dockerfile: &Dockerfile,
    stage: &Stage,
    word: &Word,
    options: &Options,
    scope: &Variables,
) -> Result<Origin> {
    let expansion = word.expand(scope).map_err(|error| expand_failed(dockerfile, word, &error))?;
    if let Some(name) = expansion.unmatched.iter().next() {
        return Err(Diagnostic::error(
            "K0308",
            format!("variable expansion is not supported for --from, except for global ARGs: `{name}` is none"),
        )
        .at(&dockerfile.source, word.span())
        .help(format!("declare `ARG {name}` before the first FROM"))
        .into());
    }
    let name = expansion.text;
    if let Some(origin) = named_origin(dockerfile, options, &name, stage.index, word.span())? {
        return Ok(origin);
    }
    if let Ok(index) = name.parse::<usize>() {
        if index < dockerfile.stages.len() && index != stage.index {
            return Ok(Origin::Stage(index));
        }
        return Err(Diagnostic::error("K0309", format!("invalid stage index {index} in --from"))
            .at(&dockerfile.source, word.span())
            .label(if index == stage.index { "is this stage itself" } else { "no such stage" })
            .help(format!("this file has stages 0 to {}", dockerfile.stages.len().saturating_sub(1)))
            .into());
    }
    if let Some(index) = find_stage(&dockerfile.stages, &name.to_lowercase()) {
        return Ok(Origin::Stage(index));
    }
    image_origin(dockerfile, &name, word.span(), &dockerfile.stages)
}
