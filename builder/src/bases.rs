//! Which images a build stands on, before any of them is opened.

use std::collections::BTreeMap;

use cache::{Image, Platform, Reference};
use grammar::{Dockerfile, Span};

use crate::error::Result;
use crate::options::Options;
use crate::stages::{Origin, Stages};

/// An image that a reachable stage needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its full name.
    pub reference: Reference,
    /// The FROM or `--from` that names it.
    pub span: Span,
    /// The platform to choose from an index.
    pub platform: Platform,
}

/// The images that [`bases`] asked for.
pub type BaseImages = BTreeMap<Reference, Image>;

/// The images that the target of `dockerfile` needs, each once, in file order.
///
/// # Errors
/// A [`Diagnostic`](grammar::Diagnostic) when a name does not resolve, stages need each other in a circle, or the target is unknown.
pub fn bases(dockerfile: &Dockerfile, options: &Options) -> Result<Vec<Base>> {
    let stages = Stages::resolve(dockerfile, options, &mut Vec::new())?;
    let mut found: Vec<Base> = Vec::new();
    let mut add = |origin: &Origin, span: Span, platform: &Platform| {
        if let Origin::Image(reference) = origin
            && !found.iter().any(|base| base.reference == *reference)
        {
            found.push(Base { reference: reference.clone(), span, platform: platform.clone() });
        }
    };
    let mut order = stages.order.clone();
    order.sort_unstable();
    for index in order {
        if let (Some(stage), Some(origin)) = (dockerfile.stages.get(index), stages.origins.get(index)) {
            add(origin, stage.base_span, stages.platforms.get(index).unwrap_or(&options.platform));
        }
        for input in stages.inputs.get(index).into_iter().flatten() {
            add(&input.origin, input.span, stages.platforms.get(index).unwrap_or(&options.platform));
        }
    }
    Ok(found)
}

/// The named contexts whose files the target needs.
///
/// # Errors
/// As [`bases`].
pub fn contexts(dockerfile: &Dockerfile, options: &Options) -> Result<Vec<String>> {
    let stages = Stages::resolve(dockerfile, options, &mut Vec::new())?;
    let mut found: Vec<String> = Vec::new();
    for index in &stages.order {
        let inputs = stages.inputs.get(*index).into_iter().flatten().map(|input| &input.origin);
        for origin in stages.origins.get(*index).into_iter().chain(inputs) {
            if let Origin::Named(name) = origin
                && !found.contains(name)
            {
                found.push(name.clone());
            }
        }
    }
    Ok(found)
}
