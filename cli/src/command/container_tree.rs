//! `diff`, `commit`, `export`, `cp`: a container's root as changes, as an image, as a tar, as files.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use engine::{CommitRequest, CopyEnd, CopyRequest, CopyStreams, TreeChange};

use super::{Failure, Outcome, open};
use crate::args::{CommitArgs, CpArgs, ExportArgs, NameArg};
use crate::ui;

pub(super) fn diff(root: Option<PathBuf>, args: &NameArg) -> Outcome {
    for (change, path) in open(root)?.diff(&args.name)? {
        let letter = match change {
            TreeChange::Added => 'A',
            TreeChange::Changed => 'C',
            TreeChange::Deleted => 'D',
        };
        ui::line(&format!("{letter} /{}", ui::foreign::line(&path.to_string_lossy())))?;
    }
    Ok(0)
}

pub(super) fn commit(root: Option<PathBuf>, args: CommitArgs) -> Outcome {
    let CommitArgs { author, change, message, pause, container, image } = args;
    let id = open(root)?.commit(&container.name, &CommitRequest { image, author, message, changes: change, pause })?;
    ui::line(&id)?;
    Ok(0)
}

pub(super) fn export(root: Option<PathBuf>, args: &ExportArgs) -> Outcome {
    if args.output.is_none() && io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not written to a terminal: use -o FILE or a pipe"));
    }
    open(root)?.export(&args.container.name, args.output.as_deref(), ui::stream)?;
    Ok(0)
}

pub(super) fn copy(root: Option<PathBuf>, args: CpArgs) -> Outcome {
    let CpArgs { archive, follow_link, quiet, from, to } = args;
    if to == CopyEnd::Stream && io::stdout().is_terminal() {
        return Err(Failure::usage("an archive is not written to a terminal: use a pipe or a file"));
    }
    let told = !quiet && from != CopyEnd::Stream && to != CopyEnd::Stream && io::stdout().is_terminal();
    let shown = shown(&to);
    let request = CopyRequest { from, to, archive, follow: follow_link };
    let streams = CopyStreams { input: || Box::new(io::stdin()), output: ui::stream };
    let bytes = open(root)?.copy(&request, streams, &|sentence| ui::note(&sentence))?;
    if told {
        ui::say(&format!("copied {} to {shown}", ui::units::bytes(bytes)));
    }
    Ok(0)
}

fn shown(end: &CopyEnd) -> String {
    match end {
        CopyEnd::Container { name, path } => format!("{name}:{}", path.display()),
        CopyEnd::Host(path) => path.display().to_string(),
        CopyEnd::Stream => "-".to_owned(),
    }
}
