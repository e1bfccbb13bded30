//! `manifest`: lists of manifests.

use std::path::PathBuf;

use engine::{Cancel, ListAnnotation};

use super::{Failure, Outcome, open};
use crate::args::{ManifestAnnotateArgs, ManifestCommand, ManifestCreateArgs, ManifestPushArgs};
use crate::ui::progress::transfers::TransferProgress;
use crate::{config, ui};

pub(super) fn manifest(root: Option<PathBuf>, command: &ManifestCommand) -> Outcome {
    match command {
        ManifestCommand::Create(args) => create(root, args),
        ManifestCommand::Annotate(args) => annotate(root, args),
        ManifestCommand::Inspect(args) => inspect(root, &args.name),
        ManifestCommand::Push(args) => push(root, args),
        ManifestCommand::Rm(args) => remove(root, &args.lists),
    }
}

fn create(root: Option<PathBuf>, args: &ManifestCreateArgs) -> Outcome {
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let engine = open(root)?;
    let created = engine.create_manifest_list(&args.list, &args.images, args.amend, &config::fetch(), &cancel);
    let name = created.map_err(|error| super::registry::stopped(error, &interrupt))?;
    ui::line(&format!("Created manifest list {name}"))?;
    Ok(0)
}

fn annotate(root: Option<PathBuf>, args: &ManifestAnnotateArgs) -> Outcome {
    let annotation = ListAnnotation {
        architecture: args.arch.clone(),
        os: args.os.clone(),
        variant: args.variant.clone(),
        os_features: args.os_features.clone(),
        os_version: args.os_version.clone(),
    };
    open(root)?.annotate_manifest_list(&args.list, &args.image, &annotation)?;
    Ok(0)
}

fn inspect(root: Option<PathBuf>, name: &str) -> Outcome {
    if let Some(list) = open(root)?.inspect_manifest_list(name)? {
        ui::line(&format!("{list:#}"))?;
        return Ok(0);
    }
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let bytes = config::fetch().remote_manifest(name, &cancel);
    let bytes = bytes.map_err(|error| super::registry::stopped(error, &interrupt))?;
    ui::bytes(&bytes)?;
    // A document that ends without a line's end is hard to read on a terminal.
    if !bytes.ends_with(b"\n") {
        ui::line("")?;
    }
    Ok(0)
}

fn push(root: Option<PathBuf>, args: &ManifestPushArgs) -> Outcome {
    let engine = open(root)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let progress = TransferProgress::new(args.quiet);
    let events = |event| progress.event(&event);
    let pushed = engine.push_manifest_list(&args.list, args.purge, &config::fetch(), &events, &cancel);
    progress.finish();
    ui::line(&pushed.map_err(|error| super::registry::stopped(error, &interrupt))?)?;
    Ok(0)
}

/// Every list is tried; those that could not be removed are told one by one.
fn remove(root: Option<PathBuf>, lists: &[String]) -> Outcome {
    let engine = open(root)?;
    let mut code = 0;
    for list in lists {
        match engine.remove_manifest_list(list) {
            Ok(name) => ui::line(&format!("Deleted: {name}"))?,
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}
