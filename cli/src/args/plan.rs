//! `dunnage plan`.

use clap::{Args, ValueEnum};

use super::BuildArgs;

/// Show what a build would do and why, without building
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage plan                               the steps of ./Dockerfile: cached, to be run, or not known yet
  dunnage plan --format svg . > plan.svg     a picture of the stages and what they take from each other
  dunnage plan --format dot . | dot -Tpdf    the same through Graphviz

A step below one that runs is `open`: where that one gives the files that it gave before, everything after it is cached.")]
pub(crate) struct PlanArgs {
    /// How to show the plan
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: PlanFormat,
    #[command(flatten)]
    pub(crate) build: BuildArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlanFormat {
    /// A line for each step
    Text,
    /// One JSON object
    Json,
    /// A graph for Graphviz
    Dot,
    /// A picture
    Svg,
}
