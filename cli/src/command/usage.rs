//! `system df`: the summary, and with `-v` each thing.

use std::path::PathBuf;

use engine::{CacheUsage, ContainerUsage, ImageUsage, Part, Usage, VolumeUsage};
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open};
use crate::args::DfArgs;
use crate::ui::table::{self, Column};
use crate::ui::template::Template;
use crate::ui::{self, units};

type Rows = Vec<Map<String, Value>>;

const SUMMARY: [Column; 5] =
    [("Type", "TYPE"), ("TotalCount", "TOTAL"), ("Active", "ACTIVE"), ("Size", "SIZE"), ("Reclaimable", "RECLAIMABLE")];
const IMAGES: [Column; 8] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("Containers", "CONTAINERS"),
];
const CONTAINERS: [Column; 7] = [
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Size", "SIZE"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("Names", "NAMES"),
];
const VOLUMES: [Column; 3] = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
const CACHE: [Column; 8] = [
    ("ID", "CACHE ID"),
    ("CacheType", "CACHE TYPE"),
    ("Size", "SIZE"),
    ("CreatedSince", "CREATED"),
    ("LastUsedSince", "LAST USED"),
    ("UsageCount", "USAGE"),
    ("Shared", "SHARED"),
    ("Step", "STEP"),
];

/// Characters of a step that a table shows.
const STEP_WIDTH: usize = 60;

pub(super) fn df(root: Option<PathBuf>, args: &DfArgs) -> Outcome {
    let usage = open(root)?.disk_usage()?;
    if !args.verbose {
        table::print(&summary(&usage), &SUMMARY, args.format.as_deref())?;
        return Ok(0);
    }
    match args.format.as_deref() {
        None | Some("table") => tables(&usage)?,
        Some("json") => ui::line(&whole(&usage).to_string())?,
        Some(text) => {
            let template = Template::parse(text).map_err(Failure::Usage)?;
            ui::line(&template.render(&whole(&usage)).map_err(Failure::Usage)?)?;
        }
    }
    Ok(0)
}

fn summary(usage: &Usage) -> Rows {
    let row = |kind: &str, part: Part, percent: bool| {
        let share = (part.reclaimable * 100).checked_div(part.bytes).filter(|_| percent);
        row(json!({
            "Type": kind,
            "TotalCount": part.total.to_string(),
            "Active": part.active.to_string(),
            "Size": units::bytes(part.bytes),
            "Reclaimable": match share {
                Some(share) => format!("{} ({share}%)", units::bytes(part.reclaimable)),
                None => units::bytes(part.reclaimable),
            },
            "SizeBytes": part.bytes,
            "ReclaimableBytes": part.reclaimable,
        }))
    };
    let mut rows = vec![
        row("Images", usage.images, true),
        row("Containers", usage.containers, true),
        row("Local Volumes", usage.volumes, true),
        row("Build Cache", usage.build_cache, false),
    ];
    // Docker has no such row: it is there when there is something to tell.
    if usage.registry.total > 0 {
        rows.push(row("Registry", usage.registry, false));
    }
    rows
}

fn tables(usage: &Usage) -> Result<(), Failure> {
    ui::line("Images space usage:\n")?;
    table::print(&usage.image_list.iter().flat_map(image_rows).collect::<Rows>(), &IMAGES, None)?;
    ui::line("\nContainers space usage:\n")?;
    table::print(&usage.container_list.iter().map(container_row).collect::<Rows>(), &CONTAINERS, None)?;
    ui::line("\nLocal Volumes space usage:\n")?;
    table::print(&usage.volume_list.iter().map(volume_row).collect::<Rows>(), &VOLUMES, None)?;
    ui::line(&format!("\nBuild cache usage: {}\n", units::bytes(usage.build_cache.bytes)))?;
    let shortened = usage.cache_list.iter().map(|cache| {
        let mut row = cache_row(cache);
        let step = ui::foreign::line(&cache.text.replace(['\n', '\t'], " "));
        let step = match step.char_indices().nth(STEP_WIDTH) {
            Some((end, _)) => format!("{}…", step.get(..end).unwrap_or_default()),
            None => step,
        };
        row.insert("ID".to_owned(), Value::String(cache.id.chars().take(12).collect()));
        row.insert("Step".to_owned(), Value::String(step));
        row
    });
    table::print(&shortened.collect::<Rows>(), &CACHE, None)?;
    if usage.registry.total > 0 {
        let (bytes, free) = (units::bytes(usage.registry.bytes), units::bytes(usage.registry.reclaimable));
        ui::line(&format!("\nRegistry usage: {bytes}, {free} of it reclaimable"))?;
    }
    let (total, other) = (units::bytes(usage.total_bytes), units::bytes(usage.other_bytes));
    ui::line(&format!("\nStore: {total} in all, {other} of it names, tables and the index"))?;
    Ok(())
}

/// Everything as one value, under docker's names.
fn whole(usage: &Usage) -> Value {
    json!({
        "Images": usage.image_list.iter().flat_map(image_rows).collect::<Rows>(),
        "Containers": usage.container_list.iter().map(container_row).collect::<Rows>(),
        "Volumes": usage.volume_list.iter().map(volume_row).collect::<Rows>(),
        "BuildCache": usage.cache_list.iter().map(cache_row).collect::<Rows>(),
        "RegistryBytes": usage.registry.bytes,
        "OtherBytes": usage.other_bytes,
        "TotalBytes": usage.total_bytes,
    })
}

fn image_rows(image: &ImageUsage) -> Rows {
    let mut names: Vec<(String, String)> = image.names.iter().map(super::image::parts).collect();
    if names.is_empty() {
        names.push(("<none>".to_owned(), "<none>".to_owned()));
    }
    let rows = names.into_iter().map(|(repository, tag)| {
        row(json!({
            "Repository": repository,
            "Tag": tag,
            "ID": image.id.hex().chars().take(12).collect::<String>(),
            "CreatedSince": units::ago(image.created.as_deref()),
            "Size": units::bytes(image.shared + image.unique),
            "SharedSize": units::bytes(image.shared),
            "UniqueSize": units::bytes(image.unique),
            "Containers": image.containers.to_string(),
            "UniqueBytes": image.unique,
            "SharedBytes": image.shared,
        }))
    });
    rows.collect()
}

fn container_row(container: &ContainerUsage) -> Map<String, Value> {
    let record = &container.record;
    row(json!({
        "ID": record.id.chars().take(12).collect::<String>(),
        "Image": record.image.hex().chars().take(12).collect::<String>(),
        "LocalVolumes": record.volumes.len().to_string(),
        "Size": units::bytes(container.bytes),
        "RunningFor": units::ago_unix(record.created),
        "Status": if container.running { "Up" } else { "Exited" },
        "Names": record.name.clone().unwrap_or_default(),
        "SizeBytes": container.bytes,
    }))
}

fn volume_row(volume: &VolumeUsage) -> Map<String, Value> {
    row(json!({
        "Name": volume.name,
        "Links": volume.links.to_string(),
        "Size": units::bytes(volume.bytes),
        "SizeBytes": volume.bytes,
    }))
}

fn cache_row(cache: &CacheUsage) -> Map<String, Value> {
    row(json!({
        "ID": cache.id,
        "CacheType": if cache.text.is_empty() { "layer" } else { "regular" },
        "Size": units::bytes(cache.bytes),
        "CreatedSince": units::ago_unix(cache.created),
        "CreatedAt": units::rfc3339(cache.created),
        "LastUsedSince": units::ago_unix(cache.last_used),
        "LastUsedAt": units::rfc3339(cache.last_used),
        "UsageCount": cache.uses,
        "InUse": cache.in_use.to_string(),
        "Shared": cache.shared.to_string(),
        "Step": cache.text,
        "SizeBytes": cache.bytes,
    }))
}

fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
