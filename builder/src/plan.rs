//! The plan of a build: a DAG of file-system steps, every word expanded, equal steps one, unreachable stages gone.
//!
//! Metadata instructions make no step: what they change is known while planning, and no file-system key contains it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

use cache::{DiffId, Platform, Reference};
use grammar::{Diagnostic, Dockerfile, GitSource, IgnoreRules, Source, Span};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::bases::BaseImages;
use crate::config::ConfigState;
use crate::error::Result;
use crate::event::StepInfo;
use crate::mounts::{MountFrom, Mounted, RunMount, is_filtered};
use crate::options::Options;
use crate::sources::HttpSource;
use crate::stages::{Stages, stage_label};
use crate::walk::{StageEnd, StageWalk};

/// A step of one plan; small numbers in planning order, dependencies before dependants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub usize);

/// What a step does to its parent's tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Op {
    /// The empty tree.
    Scratch,
    /// The layers of an image, bottom first.
    Image {
        /// The name that the Dockerfile gave.
        reference: Reference,
        /// Its layers.
        layers: Vec<DiffId>,
    },
    /// A process in a sandbox.
    Run(RunOp),
    /// Files from the context, a stage, an image or the Dockerfile itself.
    Copy(CopyOp),
    /// A directory made if it is missing.
    Workdir(WorkdirOp),
}

impl Op {
    /// It makes a layer, or hits one; the others are where a stage begins.
    pub(crate) fn is_performed(&self) -> bool {
        !matches!(self, Op::Scratch | Op::Image { .. })
    }
}

/// RUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunOp {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Environment in scope: ENV and ARG, in order.
    pub env: Vec<(String, String)>,
    /// Environment that is in no key: proxies.
    pub hidden_env: Vec<(String, String)>,
    /// Working directory.
    pub cwd: String,
    /// USER as the image has it; empty is root.
    pub user: String,
    /// Network of the step.
    pub network: Network,
    /// `--security=insecure`: the machine's devices and capabilities, no filter.
    pub insecure: bool,
    /// What the programs of the tree are made for.
    pub platform: Platform,
    /// `--mount`.
    pub mounts: Vec<RunMount>,
    /// `--device`.
    pub devices: Vec<grammar::DeviceRequest>,
    /// An executable heredoc (`#!` first), mounted for the step.
    pub script: Option<Script>,
}

impl RunOp {
    /// Whether it sees files of the build context.
    pub(crate) fn binds_context(&self) -> bool {
        self.mounts.iter().any(|mount| matches!(mount.what, Mounted::Bind { from: MountFrom::Context, .. }))
    }
}

/// A heredoc that is run by the interpreter which it names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Script {
    /// Where the step sees it.
    pub path: String,
    /// The file.
    pub body: String,
}

/// The network of a RUN, in a form that keys can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Only loopback.
    None,
    /// The host's.
    Host,
}

impl From<Network> for runtime::NetworkMode {
    fn from(network: Network) -> Self {
        match network {
            Network::None => runtime::NetworkMode::None,
            Network::Host => runtime::NetworkMode::Host,
        }
    }
}

/// COPY and ADD.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CopyOp {
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Whether the sources are of the context (`None`) or of the step that is input number 1.
    pub from_context: bool,
    /// The named context that they are of, where it is not the build's own.
    pub context: Option<String>,
    /// Absolute and clean.
    pub destination: PathBuf,
    /// The destination was written as a directory.
    pub into_directory: bool,
    /// `--chown`, expanded.
    pub chown: Option<String>,
    /// `--chmod`, expanded and checked.
    pub chmod: Option<String>,
    /// `--exclude` patterns.
    pub exclude: Vec<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`: the copy is made on an empty tree and reads nothing of the parent.
    pub link: bool,
    /// ADD: archives of the context are unpacked.
    pub unpack: bool,
}

impl CopyOp {
    /// All files of a named context, as a tree.
    pub(crate) fn whole(context: &str) -> CopyOp {
        CopyOp {
            sources: vec![CopySource::Path("/".to_owned())],
            from_context: true,
            context: Some(context.to_owned()),
            destination: PathBuf::from("/"),
            into_directory: true,
            chown: None,
            chmod: None,
            exclude: Vec::new(),
            parents: false,
            link: false,
            unpack: false,
        }
    }
}

/// One source of a COPY or ADD.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CopySource {
    /// A path of the context, a stage or an image; may hold a glob.
    Path(String),
    /// ADD of a URL.
    Url(HttpSource),
    /// ADD of a repository.
    Git(GitSource),
    /// A heredoc: file name and content.
    Inline {
        /// Name when the destination is a directory.
        name: String,
        /// The body, variables replaced.
        content: String,
    },
}

/// WORKDIR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkdirOp {
    /// Absolute and clean.
    pub path: PathBuf,
    /// Owner of what has to be made.
    pub user: String,
}

/// One node of the plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its number.
    pub id: StepId,
    /// What it does.
    pub op: Op,
    /// The parent first, then sources.
    pub inputs: Vec<StepId>,
    /// Stage name or `stage-N`.
    pub stage: String,
    /// Stage index.
    pub stage_index: usize,
    /// The number that users see: from 1 among the steps that are performed or hit, 0 for others.
    pub number: usize,
    /// Place among the performed steps of the stage and their number, 1-based.
    pub position: (usize, usize),
    /// The instruction on one line.
    pub text: String,
    /// Its place in the Dockerfile.
    pub span: Span,
    /// The cache is not asked for it.
    pub no_cache: bool,
}

/// The whole build as data.
#[derive(Debug)]
pub struct Plan {
    /// Steps and the edges from each input to its dependant.
    pub graph: DiGraph<Step, ()>,
    /// The step whose tree is the image.
    pub target: StepId,
    /// The Dockerfile, for diagnostics of failing steps.
    pub source: Source,
    /// For each layer-making history line, the step that makes it, in order.
    pub(crate) layer_steps: Vec<StepId>,
    pub(crate) config: ConfigState,
    pub(crate) options: Options,
    stage: String,
    /// What the file asks and this version cannot do.
    pub(crate) refused: Vec<Diagnostic>,
    /// What is doubtful: rules that need variables, base images or earlier instructions.
    pub warnings: Vec<Diagnostic>,
}

impl Plan {
    /// Steps in planning order: dependencies first.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.graph.node_weights()
    }

    /// One step.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.graph.node_weight(NodeIndex::new(id.0))
    }

    /// The name of the stage that the image is of, or `stage-N`.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// The steps that are performed or hit, as progress shows them.
    pub fn infos(&self) -> impl Iterator<Item = StepInfo> {
        self.steps().filter(|step| step.op.is_performed()).map(|step| self.info(step))
    }

    pub(crate) fn info(&self, step: &Step) -> StepInfo {
        let inputs = || step.inputs.iter().filter_map(|id| self.step(*id));
        let base = |input: &Step| match &input.op {
            Op::Image { reference, .. } => Some(reference.familiar()),
            Op::Scratch => Some("scratch".to_owned()),
            _ => None,
        };
        StepInfo {
            id: step.id,
            number: step.number,
            stage: step.stage.clone(),
            position: step.position,
            text: step.text.clone(),
            line: self.source.location(step.span.start).0,
            inputs: inputs().map(|input| input.number).filter(|number| *number > 0).collect(),
            bases: inputs().filter_map(base).collect(),
        }
    }

    /// The configuration of the image, as far as it is known without running anything.
    pub fn run_config(&self) -> &cache::RunConfig {
        &self.config.image.config
    }

    /// History lines, the base's first: what made them, and whether they have a layer.
    pub fn history(&self) -> impl Iterator<Item = (&str, bool)> {
        let base = self.config.base_history.iter();
        let base = base.map(|line| (line.created_by.as_deref().unwrap_or_default(), !line.empty_layer));
        base.chain(self.config.history.iter().map(|line| (line.created_by.as_str(), !line.empty_layer)))
    }

    /// Whether all that the file asks can be performed by this version.
    ///
    /// # Errors
    /// One diagnostic for each thing that cannot.
    pub fn check_supported(&self) -> Result<()> {
        if self.refused.is_empty() { Ok(()) } else { Err(crate::Error::Dockerfile(self.refused.clone())) }
    }

    /// The plan as aligned text: one line a step, its inputs by number.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        for step in self.steps() {
            let inputs: Vec<String> = step.inputs.iter().map(|id| id.0.to_string()).collect();
            let (place, of) = step.position;
            out.push_str(&format!(
                "{:>3}  {:<12} {place}/{of}  {:<40} <- {}\n",
                step.id.0,
                step.stage,
                step.text,
                if inputs.is_empty() { "nothing".to_owned() } else { inputs.join(", ") },
            ));
        }
        out
    }
}

/// Collects steps, making equal ones one.
#[derive(Debug, Default)]
pub(crate) struct Planner {
    steps: Vec<Step>,
    refused: Vec<Diagnostic>,
    pub(crate) warnings: Vec<Diagnostic>,
    /// Nothing will be performed: images that are not there are stood in for by an empty one, and sources are held
    /// against these rules.
    pub(crate) only_checks: Option<IgnoreRules>,
    known: HashMap<(Op, Vec<StepId>), StepId>,
}

/// What a step is besides its operation.
pub(crate) struct StepLabel<'a> {
    pub(crate) stage: &'a str,
    pub(crate) stage_index: usize,
    pub(crate) text: String,
    pub(crate) span: Span,
    pub(crate) no_cache: bool,
}

impl Planner {
    pub(crate) fn add(&mut self, op: Op, inputs: Vec<StepId>, label: StepLabel<'_>) -> StepId {
        let id = StepId(self.steps.len());
        let no_cache = label.no_cache;
        let known = *self.known.entry((op.clone(), inputs.clone())).or_insert_with(|| {
            self.steps.push(Step {
                id,
                op,
                inputs,
                stage: label.stage.to_owned(),
                stage_index: label.stage_index,
                number: 0,
                position: (0, 0),
                text: label.text,
                span: label.span,
                no_cache: false,
            });
            id
        });
        // A step that two stages have is performed anew when either asks for it.
        if let Some(step) = self.steps.get_mut(known.0) {
            step.no_cache |= no_cache;
        }
        known
    }

    /// Remembers something that cannot be performed: the file is still planned, and checked, to its end.
    pub(crate) fn refuse(&mut self, diagnostic: Diagnostic) {
        self.refused.push(diagnostic);
    }

    /// One that plans what nobody will perform.
    pub(crate) fn for_checks(rules: IgnoreRules) -> Planner {
        Planner { only_checks: Some(rules), ..Planner::default() }
    }

    fn into_graph(mut self) -> DiGraph<Step, ()> {
        let mut totals: BTreeMap<usize, usize> = BTreeMap::new();
        for (index, step) in self.steps.iter_mut().filter(|step| step.op.is_performed()).enumerate() {
            step.number = index + 1;
            let count = totals.entry(step.stage_index).or_default();
            *count += 1;
            step.position.0 = *count;
        }
        let mut graph = DiGraph::with_capacity(self.steps.len(), self.steps.len());
        for mut step in self.steps {
            step.position.1 = totals.get(&step.stage_index).copied().unwrap_or_default();
            let inputs = step.inputs.clone();
            let node = graph.add_node(step);
            for input in inputs {
                graph.add_edge(NodeIndex::new(input.0), node, ());
            }
        }
        graph
    }
}

/// Turns a Dockerfile into a plan. Pure: reads no disk and no clock.
///
/// # Errors
/// A diagnostic with the line for what is wrong in the file.
pub fn plan(dockerfile: &Dockerfile, options: &Options, images: &BaseImages) -> Result<Plan> {
    plan_with(Planner::default(), dockerfile, options, images).0
}

/// What is wrong or doubtful in a file, in any of its stages. Needs no image: those in `images` are looked into.
pub fn check(dockerfile: &Dockerfile, options: &Options, images: &BaseImages, rules: &IgnoreRules) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let last = dockerfile.stages.len().saturating_sub(1);
    let targets = std::iter::once(options.target.clone()).chain((0..last).rev().map(|index| Some(index.to_string())));
    for (round, target) in targets.enumerate() {
        // After the target come the stages that it did not need, last first.
        if round > 0
            && target.as_deref().and_then(|index| index.parse().ok()).is_some_and(|index| seen.contains(&index))
        {
            continue;
        }
        let options = Options { target, ..options.clone() };
        if let Ok(stages) = Stages::resolve(dockerfile, &options, &mut Vec::new()) {
            seen.extend(stages.order);
        }
        let planner = Planner::for_checks(rules.clone());
        let (plan, warnings) = plan_with(planner, dockerfile, &options, images);
        let errors = match plan {
            Ok(plan) => plan.refused,
            Err(crate::Error::Dockerfile(errors)) => errors,
            Err(_) => Vec::new(),
        };
        for diagnostic in warnings.into_iter().chain(errors) {
            let known = |other: &Diagnostic| other.span == diagnostic.span && other.message == diagnostic.message;
            if round == 0 || !found.iter().any(known) {
                found.push(diagnostic);
            }
        }
    }
    found
}

/// The plan, and what was doubtful, which is known also when there is no plan.
pub(crate) fn plan_with(
    mut planner: Planner,
    dockerfile: &Dockerfile,
    options: &Options,
    images: &BaseImages,
) -> (Result<Plan>, Vec<Diagnostic>) {
    let result = walk_stages(&mut planner, dockerfile, options, images);
    let warnings = std::mem::take(&mut planner.warnings);
    let plan = result.map(|end| Plan {
        refused: std::mem::take(&mut planner.refused),
        warnings: warnings.clone(),
        graph: planner.into_graph(),
        target: end.head,
        stage: end.stage,
        source: dockerfile.source.clone(),
        layer_steps: end.layer_steps,
        config: end.state,
        options: options.clone(),
    });
    (plan, warnings)
}

fn walk_stages(
    planner: &mut Planner,
    dockerfile: &Dockerfile,
    options: &Options,
    images: &BaseImages,
) -> Result<StageEnd> {
    let stages = Stages::resolve(dockerfile, options, &mut planner.warnings)?;
    let mut ends: BTreeMap<usize, StageEnd> = BTreeMap::new();
    for index in &stages.order {
        let Some(stage) = dockerfile.stages.get(*index) else { continue };
        let mut walk = StageWalk::begin(dockerfile, options, &stages, images, planner, &ends, stage)?;
        let read = walk.read();
        let end = walk.end();
        planner.warnings.extend(end.warnings.iter().cloned());
        read?;
        ends.insert(*index, end);
    }
    let Some(mut end) = ends.remove(&stages.target) else {
        return Err(crate::Error::WorkerLost);
    };
    add_labels(&mut end, options);
    Ok(end)
}

fn add_labels(end: &mut StageEnd, options: &Options) {
    for (key, value) in &options.labels {
        end.state.config().labels.insert(key.clone(), value.clone());
    }
}

/// The label of a stage's own steps.
pub(crate) fn label<'a>(
    stage: &grammar::Stage,
    name: &'a str,
    text: &str,
    span: Span,
    options: &Options,
) -> StepLabel<'a> {
    let no_cache = is_filtered(&options.no_cache_stages, stage);
    StepLabel { stage: name, stage_index: stage.index, text: text.to_owned(), span, no_cache }
}

/// The name that progress shows for a stage.
pub(crate) fn name_of(stage: &grammar::Stage) -> String {
    stage_label(stage)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn builder_f09_a_base_of_another_platform_is_told_and_the_build_goes_on() {
        let parsed = grammar::parse(&Source::new("Dockerfile", "FROM other\nRUN true\n"));
        let options = Options { platform: "linux/amd64".parse().unwrap(), ..Options::default() };
        let config = r#"{"architecture":"s390x","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let image = cache::Image::from_bytes(config.as_bytes()).unwrap();
        let images: BaseImages = [("other".parse().unwrap(), image)].into();
        let plan = plan(&parsed.dockerfile, &options, &images).unwrap();
        assert_eq!(plan.steps().count(), 2);
        let codes: Vec<&str> = plan.warnings.iter().map(|diagnostic| diagnostic.code).collect();
        assert_eq!(codes, ["InvalidBaseImagePlatform"]);
    }
}
