//! `volume create`, `ls`, `inspect`, `rm`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Failure, Outcome, open, prune};
use crate::args::{Volume, VolumeCreateArgs, VolumeFilter, VolumeInspectArgs, VolumeLsArgs, VolumeRmArgs};
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

const VOLUMES: [Column; 2] = [("Driver", "DRIVER"), ("Name", "VOLUME NAME")];

pub(super) fn volume(root: Option<PathBuf>, volume: &Volume) -> Outcome {
    match volume {
        Volume::Create(args) => create(root, args),
        Volume::Ls(args) => list(root, args),
        Volume::Inspect(args) => inspect(root, args),
        Volume::Rm(args) => remove(root, args),
        Volume::Prune(args) => prune::volumes(root, args),
    }
}

fn create(root: Option<PathBuf>, args: &VolumeCreateArgs) -> Outcome {
    let name = args.name.as_deref().or(args.named.as_deref());
    let options = args.opt.iter().cloned().collect();
    let made = open(root)?.create_volume(name, super::build::pairs(&args.label), options)?;
    ui::line(&made.name)?;
    Ok(0)
}

fn list(root: Option<PathBuf>, args: &VolumeLsArgs) -> Outcome {
    let engine = open(root)?;
    let mut rows = Vec::new();
    for (volume, used) in engine.volumes()? {
        if args.filter.iter().all(|filter| wanted(filter, &volume, used)) {
            let (volume, data) = engine.volume(&volume.name)?;
            let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let row = json!({
                "Driver": "local",
                "Name": volume.name,
                "Mountpoint": data.display().to_string(),
                "Labels": labels.join(","),
                "Scope": "local",
            });
            rows.extend(row.as_object().cloned());
        }
    }
    if args.quiet {
        rows.iter().filter_map(|row| row.get("Name")?.as_str()).try_for_each(ui::line)?;
    } else {
        table::print(&rows, &VOLUMES, args.format.as_deref())?;
    }
    Ok(0)
}

fn wanted(filter: &VolumeFilter, volume: &engine::Volume, used: bool) -> bool {
    match filter {
        VolumeFilter::Any => true,
        VolumeFilter::Dangling(dangling) => *dangling != used,
        VolumeFilter::Driver(driver) => driver == "local",
        VolumeFilter::Name(part) => volume.name.contains(part.as_str()),
        VolumeFilter::Label(key, value) => {
            volume.labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
        }
    }
}

fn inspect(root: Option<PathBuf>, args: &VolumeInspectArgs) -> Outcome {
    let engine = open(root)?;
    super::inspect::each(&args.names, args.format.as_deref(), |name| {
        engine.volume(name).map(|(volume, data)| shown(&volume, &data))
    })
}

pub(super) fn shown(volume: &engine::Volume, data: &Path) -> Value {
    json!({
        "CreatedAt": units::rfc3339(volume.created),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": data.display().to_string(),
        "Name": volume.name,
        "Options": if volume.options.is_empty() { Value::Null } else { json!(volume.options) },
        "Scope": "local",
    })
}

/// Every volume is tried; those that could not be removed are told one by one.
fn remove(root: Option<PathBuf>, args: &VolumeRmArgs) -> Outcome {
    let engine = open(root)?;
    let mut code = 0;
    for name in &args.names {
        match engine.remove_volume(name) {
            Ok(()) => ui::line(name)?,
            Err(engine::Error::VolumeNotFound(_)) if args.force => ui::line(name)?,
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}
