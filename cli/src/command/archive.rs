//! `bootstrap`, `import`, `save`, `load`: images that come from files and go to them.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use engine::{ArchiveFormat, ImportRequest, LoadInput, SaveOutput};

use super::{Failure, Outcome, open};
use crate::args::{BootstrapArgs, ImportArgs, LoadArgs, SaveArgs, SaveFormat};
use crate::{config, ui};

pub(super) fn bootstrap(root: Option<PathBuf>, args: &BootstrapArgs) -> Outcome {
    let id = open(root)?
        .bootstrap(&args.name, &args.from, &config::search_path(), &|line| ui::say(&ui::foreign::line(&line)))?;
    ui::line(&id)?;
    Ok(0)
}

pub(super) fn import(root: Option<PathBuf>, args: &ImportArgs) -> Outcome {
    let engine = open(root)?;
    let request = ImportRequest {
        name: args.name.clone(),
        message: args.message.clone(),
        changes: args.change.clone(),
        platform: args.platform.clone(),
    };
    let id = if args.file == Path::new("-") {
        engine.import(&mut io::stdin(), &request)?
    } else {
        let mut file = File::open(&args.file)
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", args.file.display())))?;
        engine.import(&mut file, &request)?
    };
    ui::line(&id)?;
    Ok(0)
}

pub(super) fn save(root: Option<PathBuf>, args: &SaveArgs) -> Outcome {
    let format = match args.format {
        SaveFormat::Docker => ArchiveFormat::Docker,
        SaveFormat::Oci => ArchiveFormat::Oci,
    };
    let mut stdout = io::stdout().lock();
    let output = match &args.output {
        None if stdout.is_terminal() => {
            return Err(Failure::usage("an archive is not written to a terminal: use -o FILE or a pipe"));
        }
        None => SaveOutput::Stream(&mut stdout),
        Some(path) if path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/') => {
            SaveOutput::Directory(path.clone())
        }
        Some(path) => SaveOutput::File(path.clone()),
    };
    open(root)?.save(&args.images, format, output)?;
    Ok(0)
}

pub(super) fn load(root: Option<PathBuf>, args: &LoadArgs) -> Outcome {
    let mut stdin = io::stdin();
    let input = match &args.input {
        None if stdin.is_terminal() => {
            return Err(Failure::usage("an archive is not read from a terminal: use -i FILE or a pipe"));
        }
        None => LoadInput::Stream(&mut stdin),
        Some(path) => LoadInput::Path(path.clone()),
    };
    for loaded in open(root)?.load(input)? {
        // With --quiet too, as with docker: scripts read the name behind the colon.
        if loaded.names.is_empty() {
            ui::line(&format!("Loaded image ID: {}", loaded.id))?;
        } else {
            loaded.names.iter().try_for_each(|name| ui::line(&format!("Loaded image: {name}")))?;
        }
    }
    Ok(0)
}
