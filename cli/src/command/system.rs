//! `system df`, `system prune`, `info`, `version`.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use engine::{Cgroups, Problem, PruneOptions, Storage, Usage};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open, open_for_snapshots};
use crate::args::{DfArgs, PruneArgs, StorageArgs, StoreCheckArgs, System};
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

const DF: [Column; 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];

pub(super) fn system(root: Option<PathBuf>, system: &System) -> Outcome {
    match system {
        System::Df(args) => df(root, args),
        System::Prune(args) => prune(root, args),
        System::Check(args) => check(root, args),
    }
}

fn check(root: Option<PathBuf>, args: &StoreCheckArgs) -> Outcome {
    let found = open(root)?.check_store(args.repair)?;
    let problem = |problem: &Problem| json!({"what": problem.what, "repaired": problem.repaired});
    if args.format.is_some() {
        let document = json!({
            "layers": found.layers, "images": found.images, "names": found.names, "blobs": found.blobs,
            "records": found.records, "bytes": found.bytes,
            "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
        });
        ui::line(&document.to_string())?;
    } else {
        for problem in &found.problems {
            ui::line(&format!("{}{}", problem.what, if problem.repaired { " (taken out of use)" } else { "" }))?;
        }
        ui::line(&format!(
            "{} layers, {} images, {} names, {} blobs, {} step records; {} read: {}",
            found.layers,
            found.images,
            found.names,
            found.blobs,
            found.records,
            units::bytes(found.bytes),
            if found.problems.is_empty() {
                "all is well".to_owned()
            } else {
                format!("{} damaged", found.problems.len())
            },
        ))?;
    }
    Ok(u8::from(found.problems.iter().any(|problem| !problem.repaired)))
}

fn df(root: Option<PathBuf>, args: &DfArgs) -> Outcome {
    table::print(&df_rows(&open(root)?.disk_usage()?), &DF, args.format.as_deref())?;
    Ok(0)
}

fn df_rows(usage: &Usage) -> Vec<Map<String, Value>> {
    let parts = [("Images", usage.images), ("Containers", usage.containers), ("Build Cache", usage.build_cache)];
    let rows = parts.into_iter().map(|(kind, part)| {
        let percent = (part.reclaimable * 100).checked_div(part.bytes).unwrap_or(0);
        json!({
            "Type": kind,
            "TotalCount": part.total.to_string(),
            "Active": part.active.to_string(),
            "Size": units::bytes(part.bytes),
            "Reclaimable": format!("{} ({percent}%)", units::bytes(part.reclaimable)),
        })
    });
    rows.filter_map(|row| row.as_object().cloned()).collect()
}

fn prune(root: Option<PathBuf>, args: &PruneArgs) -> Outcome {
    let engine = open(root)?;
    if !args.force && !args.dry_run && !confirmed(args.all)? {
        return Ok(0);
    }
    let pruned = engine.prune(&PruneOptions { all: args.all, dry_run: args.dry_run })?;
    for id in &pruned.images {
        ui::line(&format!("Deleted image: {id}"))?;
    }
    for id in &pruned.containers {
        ui::line(&format!("Deleted container: {id}"))?;
    }
    if pruned.layers + pruned.records > 0 {
        ui::line(&format!("Deleted build cache: {} layers, {} records", pruned.layers, pruned.records))?;
    }
    let what = if args.dry_run { "Reclaimable space" } else { "Total reclaimed space" };
    ui::line(&format!("{what}: {}", units::bytes(pruned.bytes)))?;
    Ok(0)
}

fn confirmed(all: bool) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to be asked: add --force"));
    }
    let what = if all {
        "all stopped containers, all images that no container stands on, and the whole build cache"
    } else {
        "all stopped containers, all images without a name, and what they alone used"
    };
    let mut err = io::stderr();
    let _ = write!(err, "This removes {what}. Go on? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

pub(super) fn info(root: Option<PathBuf>, args: StorageArgs) -> Outcome {
    let engine = open_for_snapshots(root, args)?;
    let info = engine.info()?;
    for (name, value) in [
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Store", info.root.display().to_string()),
        ("Images", info.images.to_string()),
        ("Platform", info.platform),
        ("Kernel", info.kernel),
        ("CPUs", info.cpus.to_string()),
        ("Snapshots", snapshots(&info.storage)),
        ("Control groups", cgroups(info.cgroups).to_owned()),
        ("Seccomp", if info.seccomp { "yes" } else { "not in this kernel" }.to_owned()),
    ] {
        ui::line(&format!("{name}: {value}"))?;
    }
    Ok(0)
}

fn snapshots(storage: &Storage) -> String {
    let remedy = storage.remedy.as_ref().map_or_else(String::new, |remedy| format!("; for overlay, {remedy}"));
    format!("{} ({}{remedy})", storage.driver, storage.why)
}

fn cgroups(layout: Cgroups) -> &'static str {
    match layout {
        Cgroups::None => "none",
        Cgroups::V1 => "v1",
        Cgroups::Hybrid => "hybrid (v1, with an empty v2)",
        Cgroups::V2 => "v2",
    }
}

pub(super) fn version() -> Outcome {
    ui::line(&format!("dunnage {}", env!("CARGO_PKG_VERSION")))?;
    Ok(0)
}
