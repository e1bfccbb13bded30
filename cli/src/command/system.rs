//! `system check`, `info`, `version`.

use std::path::PathBuf;

use engine::{Cgroups, Delegated, Engine, Ids, Info, Isolation, Problem, Status, Storage, UsernsRanges};
use serde_json::{Value, json};

use super::{Failure, Outcome, open, open_for_snapshots, prune, usage};
use crate::args::{InfoArgs, StoreCheckArgs, System, VersionArgs};
use crate::ui::template::Template;
use crate::ui::{self, units};

pub(super) fn system(root: Option<PathBuf>, system: &System) -> Outcome {
    match system {
        System::Df(args) => usage::df(root, args),
        System::Prune(args) => prune::system(root, args),
        System::Check(args) => check(root, args),
        // `dispatch` knows more and calls these itself.
        System::Info(args) => info(root, args, None),
        System::Events(args) => super::events::events(root, args),
    }
}

fn check(root: Option<PathBuf>, args: &StoreCheckArgs) -> Outcome {
    let found = open(root)?.check_store(args.repair)?;
    let problem = |problem: &Problem| {
        json!({
            "what": problem.what, "repaired": problem.repaired.is_some(), "done": problem.repaired, "images": problem.images,
        })
    };
    if args.format.is_some() {
        let document = json!({
            "layers": found.layers, "images": found.images, "names": found.names, "blobs": found.blobs,
            "records": found.records, "bytes": found.bytes,
            "problems": found.problems.iter().map(problem).collect::<Vec<_>>(),
        });
        ui::line(&document.to_string())?;
    } else {
        for problem in &found.problems {
            let done = problem.repaired.map_or_else(String::new, |done| format!(" ({done})"));
            ui::line(&format!("{}{done}", problem.what))?;
            if !problem.images.is_empty() {
                ui::line(&format!("  images that need it: {}", problem.images.join(", ")))?;
            }
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
    Ok(u8::from(found.problems.iter().any(|problem| problem.repaired.is_none())))
}

pub(super) fn info(root: Option<PathBuf>, args: &InfoArgs, isolation: Option<&Isolation>) -> Outcome {
    let engine = open_for_snapshots(root, args.storage)?;
    let info = engine.info()?;
    if let Some(format) = &args.format {
        return formatted(&info_document(&engine, &info)?, format);
    }
    for (name, value) in [
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
        ("Store", info.root.display().to_string()),
        ("Images", info.images.to_string()),
        ("Platform", info.platform),
        ("Kernel", info.kernel),
        ("CPUs", info.cpus.to_string()),
        ("Isolation", isolation.map_or_else(String::new, isolation_text)),
        ("Snapshots", snapshots(&info.storage)),
        ("Control groups", cgroups(info.cgroups, info.delegated.as_ref())),
        ("Networks", networks(&info.networks, info.uplinks.as_deref())),
        ("User namespaces", userns(&info.userns)),
        ("Seccomp", if info.seccomp { "yes" } else { "not in this kernel" }.to_owned()),
    ] {
        ui::line(&format!("{name}: {value}"))?;
    }
    Ok(0)
}

/// A document through `--format`.
fn formatted(document: &Value, format: &str) -> Outcome {
    let text = match format {
        "json" => document.to_string(),
        template => Template::parse(template).and_then(|template| template.render(document)).map_err(Failure::Usage)?,
    };
    ui::line(&text)?;
    Ok(0)
}

/// What docker's `info` has, under its names.
fn info_document(engine: &Engine, info: &Info) -> Result<Value, Failure> {
    let containers = engine.containers()?;
    let count = |wanted: &[Status]| containers.iter().filter(|info| wanted.contains(&info.status)).count();
    let security: Vec<&str> = info.seccomp.then_some("name=seccomp,profile=builtin").into_iter().collect();
    Ok(json!({
        "ID": "",
        "Name": info.host_name,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Containers": containers.len(),
        "ContainersRunning": count(&[Status::Running, Status::Restarting]),
        "ContainersPaused": count(&[Status::Paused]),
        "ContainersStopped": count(&[Status::Created, Status::Exited]),
        "Images": info.images,
        "Driver": info.storage.driver.to_string(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if info.cgroups == Cgroups::V2 { "2" } else { "1" },
        "DockerRootDir": info.root.display().to_string(),
        "KernelVersion": info.kernel,
        "OperatingSystem": info.system,
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": info.cpus,
        "MemTotal": info.memory,
        "DefaultRuntime": "dunnage",
        "Runtimes": { "dunnage": { "path": "dunnage" } },
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "none"], "Log": ["json-file", "local", "none"] },
        "SecurityOptions": security,
        "Swarm": { "LocalNodeState": "inactive" },
        "Labels": [],
        "Warnings": null,
    }))
}

fn isolation_text(isolation: &Isolation) -> String {
    match isolation {
        Isolation::Containers(Ids::Own) => "namespaces, as user 0".to_owned(),
        Isolation::Containers(Ids::All) => "a user namespace with all ids, since this user 0 may not mount".to_owned(),
        Isolation::Containers(Ids::Ranges(count)) => format!("a user namespace with {count} ids, by newuidmap"),
        Isolation::Containers(Ids::Single { why, remedy }) => {
            format!("a user namespace with this user's id alone, since {why}; for more, {remedy}")
        }
        Isolation::FilesOnly { why, remedy } => format!("no containers, since {why}; for them, {remedy}"),
    }
}

fn snapshots(storage: &Storage) -> String {
    let remedy = storage.remedy.as_ref().map_or_else(String::new, |remedy| format!("; for overlay, {remedy}"));
    format!("{} ({}{remedy})", storage.driver, storage.why)
}

fn networks(probed: &Result<(), String>, uplinks: Option<&[&str]>) -> String {
    match probed {
        Ok(()) => match uplinks {
            None => "bridge, host, none".to_owned(),
            Some([first, ..]) => format!("bridge (way out by {first}), host, none"),
            Some([]) => {
                "bridge (no way out, since neither pasta nor slirp4netns is installed: containers that name no \
                         network have the machine's; for one, install package passt), host, none"
                    .to_owned()
            }
        },
        Err(reason) => format!("host, none; no bridge ({reason})"),
    }
}

fn userns(probed: &Result<UsernsRanges, String>) -> String {
    match probed {
        Ok(UsernsRanges { ranges, first, origin }) => {
            format!("auto ({ranges} ranges of 65536 ids from {first}, {origin}), host")
        }
        Err(reason) => format!("host; no auto, since {reason}"),
    }
}

fn cgroups(layout: Cgroups, delegated: Option<&Option<Delegated>>) -> String {
    let layout = match layout {
        Cgroups::None => "none",
        Cgroups::V1 => "v1",
        Cgroups::Hybrid => "hybrid (v1, with an empty v2)",
        Cgroups::V2 => "v2",
    };
    match delegated {
        None => layout.to_owned(),
        Some(None) => format!(
            "{layout}; none was delegated to this user: no limits and no pause, for them \
             `systemd-run --user --scope -p Delegate=yes dunnage …`"
        ),
        Some(Some(Delegated { path, controllers })) => {
            let names: Vec<&str> = controllers.iter().map(|controller| controller.name()).collect();
            let names = if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
            format!("{layout}; /{} was delegated to this user, and limits {names}", path.display())
        }
    }
}

/// Client and server are one program.
pub(super) fn version(args: &VersionArgs) -> Outcome {
    if let Some(format) = &args.format {
        let architecture = engine::Platform::host().architecture;
        let one = json!({ "Version": env!("CARGO_PKG_VERSION"), "Os": "linux", "Arch": architecture });
        return formatted(&json!({ "Client": one, "Server": one }), format);
    }
    ui::line(&format!("dunnage {}", env!("CARGO_PKG_VERSION")))?;
    Ok(0)
}
