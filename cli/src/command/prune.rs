//! All forms of `prune`, with docker's words.

use std::io::{self, BufRead, Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use engine::{CachePolicy, Filters, ImagePolicy, PruneOptions, Pruned, PrunedCache, VolumePolicy};

use super::{Failure, Outcome, open};
use crate::args::{
    BuilderPruneArgs, Consent, ContainerPruneArgs, ImagePruneArgs, NetworkPruneArgs, SystemPruneArgs, VolumePruneArgs,
    filters,
};
use crate::ui::{self, units};

pub(super) fn system(root: Option<PathBuf>, args: &SystemPruneArgs) -> Outcome {
    let filters = filters(&args.filter);
    if args.volumes && filters.until.is_some() {
        return Err(Failure::usage("the filter until= cannot be used with --volumes"));
    }
    let budget = args.budget.budget();
    let options = PruneOptions {
        containers: true,
        images: if args.all { ImagePolicy::Unused } else { ImagePolicy::Dangling },
        cache: match (args.all, budget.is_none()) {
            (true, _) => CachePolicy::All,
            (false, false) => CachePolicy::Unshared,
            (false, true) => CachePolicy::Orphans,
        },
        volumes: if args.volumes { VolumePolicy::Anonymous } else { VolumePolicy::Keep },
        quarantine: args.all && filters == Filters::default(),
        filters,
        budget,
        dry_run: args.consent.dry_run,
    };
    let mut what = vec!["all stopped containers", "all networks that no container is on"];
    what.extend(args.volumes.then_some("all anonymous volumes not used by at least one container"));
    what.push(if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    what.push(match options.cache {
        CachePolicy::All => "all build cache",
        CachePolicy::Unshared => "the least recently used build cache, until it fits",
        _ => "unused layers",
    });
    what.extend(args.builds_older_than.map(|_| "the records of old builds"));
    let Some(pruned) = perform(root.clone(), &options, &args.consent, &what)? else { return Ok(0) };
    list("Deleted Containers:", &pruned.containers)?;
    list("Deleted Networks:", &open(root.clone())?.prune_networks(&options.filters, args.consent.dry_run)?)?;
    list("Deleted Volumes:", &pruned.volumes)?;
    list("Deleted Images:", &image_lines(&pruned))?;
    let cache: Vec<String> = pruned.cache.iter().map(|cache| cache.id.clone()).collect();
    list("Deleted build cache objects:", &cache)?;
    if let Some(age) = args.builds_older_than {
        list("Deleted records of builds:", &old_builds(root, age, &args.consent)?)?;
    }
    total(&args.consent, pruned.bytes)
}

fn old_builds(root: Option<PathBuf>, age: Duration, consent: &Consent) -> Result<Vec<String>, Failure> {
    let engine = open(root)?;
    let old = engine.builds_before(units::before_ms(age))?;
    if !consent.dry_run {
        for id in &old {
            engine.remove_build(id)?;
        }
    }
    Ok(old)
}

pub(super) fn builder(root: Option<PathBuf>, args: &BuilderPruneArgs) -> Outcome {
    let filters = filters(&args.filter);
    if !filters.labels.is_empty() {
        return Err(Failure::usage("cached steps have no labels: only the filter until= is there"));
    }
    let options = PruneOptions {
        cache: if args.all { CachePolicy::All } else { CachePolicy::Unshared },
        filters,
        budget: args.budget.budget(),
        dry_run: args.consent.dry_run,
        ..PruneOptions::default()
    };
    let what = if args.all { "all build cache" } else { "all build cache that no image shares" };
    let Some(pruned) = perform(root, &options, &args.consent, &[what])? else { return Ok(0) };
    if !pruned.cache.is_empty() {
        ui::line("ID\tRECLAIMABLE\tSIZE\tLAST ACCESSED\tSTEP")?;
    }
    pruned.cache.iter().try_for_each(cache_line)?;
    ui::line(&format!("Total:\t{}", units::bytes(pruned.bytes)))?;
    Ok(0)
}

fn cache_line(cache: &PrunedCache) -> io::Result<()> {
    let id: String = cache.id.chars().take(12).collect();
    let step = ui::foreign::line(&cache.text.replace(['\n', '\t'], " "));
    let size = units::bytes(cache.bytes);
    ui::line(format!("{id}\ttrue\t{size}\t{}\t{step}", units::ago_unix(cache.last_used)).trim_end())
}

pub(super) fn images(root: Option<PathBuf>, args: &ImagePruneArgs) -> Outcome {
    let options = PruneOptions {
        images: if args.all { ImagePolicy::Unused } else { ImagePolicy::Dangling },
        cache: CachePolicy::Orphans,
        filters: filters(&args.filter),
        dry_run: args.consent.dry_run,
        ..PruneOptions::default()
    };
    let what =
        if args.all { "all images without at least one container associated to them" } else { "all dangling images" };
    let Some(pruned) = perform(root, &options, &args.consent, &[what])? else { return Ok(0) };
    list("Deleted Images:", &image_lines(&pruned))?;
    total(&args.consent, pruned.bytes)
}

pub(super) fn containers(root: Option<PathBuf>, args: &ContainerPruneArgs) -> Outcome {
    let options = PruneOptions {
        containers: true,
        filters: filters(&args.filter),
        dry_run: args.consent.dry_run,
        ..PruneOptions::default()
    };
    let Some(pruned) = perform(root, &options, &args.consent, &["all stopped containers"])? else {
        return Ok(0);
    };
    list("Deleted Containers:", &pruned.containers)?;
    total(&args.consent, pruned.bytes)
}

pub(super) fn volumes(root: Option<PathBuf>, args: &VolumePruneArgs) -> Outcome {
    let filters = filters(&args.filter);
    if filters.until.is_some() {
        return Err(Failure::usage("volumes have no filter until=: only label= and label!= are there"));
    }
    let options = PruneOptions {
        volumes: if args.all { VolumePolicy::All } else { VolumePolicy::Anonymous },
        filters,
        dry_run: args.consent.dry_run,
        ..PruneOptions::default()
    };
    let what = if args.all {
        "all volumes not used by at least one container"
    } else {
        "all anonymous volumes not used by at least one container"
    };
    let Some(pruned) = perform(root, &options, &args.consent, &[what])? else { return Ok(0) };
    list("Deleted Volumes:", &pruned.volumes)?;
    total(&args.consent, pruned.bytes)
}

pub(super) fn networks(root: Option<PathBuf>, args: &NetworkPruneArgs) -> Outcome {
    let what = "all networks that no container is on";
    if !args.consent.force && !args.consent.dry_run && !confirmed(&[what])? {
        return Ok(0);
    }
    let removed = open(root)?.prune_networks(&filters(&args.filter), args.consent.dry_run)?;
    list("Deleted Networks:", &removed)?;
    Ok(0)
}

/// Asks, and does it; none when the answer was no.
fn perform(
    root: Option<PathBuf>,
    options: &PruneOptions,
    consent: &Consent,
    what: &[&str],
) -> Result<Option<Pruned>, Failure> {
    if !consent.force && !consent.dry_run && !confirmed(what)? {
        return Ok(None);
    }
    Ok(Some(open(root)?.prune(options)?))
}

/// Most of an answer that is read.
const ANSWER_LIMIT: u64 = 4096;

fn confirmed(what: &[&str]) -> Result<bool, Failure> {
    ui::say("WARNING! This will remove:");
    what.iter().for_each(|what| ui::say(&format!("  - {what}")));
    let mut err = io::stderr();
    let _ = write!(err, "\nAre you sure you want to continue? [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    // Who pipes an answer in has thought of it.
    if io::stdin().lock().take(ANSWER_LIMIT).read_line(&mut answer)? == 0 {
        ui::say("");
        return Err(Failure::usage("nobody is there to be asked: add --force"));
    }
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn image_lines(pruned: &Pruned) -> Vec<String> {
    let lines = pruned.images.iter().flat_map(|image| {
        let names = image.names.iter().map(|name| format!("untagged: {}", name.familiar()));
        names.chain([format!("deleted: {}", image.id)]).collect::<Vec<_>>()
    });
    lines.collect()
}

fn list(heading: &str, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    ui::line(heading)?;
    lines.iter().try_for_each(|line| ui::line(line))?;
    ui::line("")
}

fn total(consent: &Consent, bytes: u64) -> Outcome {
    let what = if consent.dry_run { "Reclaimable space" } else { "Total reclaimed space" };
    ui::line(&format!("{what}: {}", units::bytes(bytes)))?;
    Ok(0)
}
