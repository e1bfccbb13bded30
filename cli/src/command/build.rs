//! `dunnage build`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::ValueEnum;
use engine::{BuildRequest, Built, Cancel, NetworkMode, Output};

use super::{Failure, Outcome, open_for_snapshots};
use crate::args::{BuildArgs, BuildNetwork, CheckFormat, Progress as Mode};
use crate::ui::progress::Progress;
use crate::{config, ui};

pub(super) fn build(root: Option<PathBuf>, args: BuildArgs) -> Outcome {
    if args.check {
        return super::check::found(root, &request(args)?, None, CheckFormat::Text);
    }
    let progress = Progress::new(mode(&args)?);
    let outputs = outputs(&args)?;
    // What goes to standard output is then the image, and nothing else.
    let streams = outputs.iter().any(Output::is_stream);
    let (quiet, iidfile) = (args.quiet, args.iidfile.clone());
    let storage = args.storage;
    let request = BuildRequest { outputs, owner: config::owner(), stream: Some(ui::stream), ..request(args)? };
    let engine = open_for_snapshots(root, storage)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    let result = engine.build(&request, &|event| progress.event(&event), &cancel);
    progress.finish(result.as_ref());
    match result {
        Ok(built) => {
            finish(&built, quiet, streams, iidfile)?;
            Ok(0)
        }
        Err(error) => {
            let failure = Failure::from(error);
            // Which signal it was is known here; the engine knows only that it was asked to stop.
            let code = interrupt.code().filter(|_| failure.code() == 130);
            let code =
                if progress.tells_errors() { code.unwrap_or(failure.code()) } else { code.unwrap_or(failure.tell()) };
            Err(Failure::Told(code))
        }
    }
}

fn finish(built: &Built, quiet: bool, streams: bool, iidfile: Option<PathBuf>) -> Result<(), Failure> {
    if !quiet {
        ui::diagnostic::summary(&built.warnings);
    }
    if let Some(path) = iidfile {
        std::fs::write(&path, &built.id)
            .map_err(|error| Failure::usage(format!("cannot write --iidfile {}: {error}", path.display())))?;
    }
    if quiet && !streams {
        ui::line(&built.id)?;
    }
    Ok(())
}

fn outputs(args: &BuildArgs) -> Result<Vec<Output>, Failure> {
    let mut outputs = args.output.clone();
    if args.load && !outputs.iter().any(Output::is_image) {
        outputs.push(Output::Image { names: Vec::new() });
    }
    match outputs.iter().filter(|output| output.is_stream()).count() {
        0 => {}
        1 if io::stdout().is_terminal() => {
            return Err(Failure::usage("a tar is not written to a terminal: add dest=FILE, or use a pipe"));
        }
        1 => {}
        _ => return Err(Failure::usage("only one --output can go to standard output: add dest=FILE to the others")),
    }
    Ok(outputs)
}

fn mode(args: &BuildArgs) -> Result<Mode, Failure> {
    if args.quiet {
        return Ok(Mode::Quiet);
    }
    match (args.progress, config::progress()) {
        (Some(mode), _) => Ok(mode),
        (None, Some(text)) => Mode::from_str(&text, true).map_err(|_| {
            Failure::usage(format!(
                "the progress mode `{text}` of the environment is not known: auto, tty, plain, rawjson and quiet are"
            ))
        }),
        (None, None) => Ok(Mode::Auto),
    }
}

fn request(args: BuildArgs) -> Result<BuildRequest, Failure> {
    Ok(BuildRequest {
        context: args.context,
        dockerfile: args.file,
        names: args.tag,
        build_args: build_args(&args.build_arg),
        target: args.target,
        labels: pairs(&args.label),
        no_cache: args.no_cache,
        network: Some(match args.network {
            BuildNetwork::Host => NetworkMode::Host,
            BuildNetwork::None => NetworkMode::None,
        }),
        jobs: args.jobs.map(usize::from),
        source_date_epoch: config::source_date_epoch().map_err(Failure::Usage)?,
        ..BuildRequest::default()
    })
}

/// `NAME` alone takes the environment's value; a name that has none there is as if it were not given.
fn build_arg(text: &str) -> Option<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) => Some((name.to_owned(), value.to_owned())),
        None => Some((text.to_owned(), config::variable(text)?)),
    }
}

pub(super) fn build_args(texts: &[String]) -> BTreeMap<String, String> {
    texts.iter().filter_map(|text| build_arg(text)).collect()
}

pub(super) fn pairs(texts: &[String]) -> BTreeMap<String, String> {
    texts
        .iter()
        .map(|text| text.split_once('=').unwrap_or((text, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
