//! The verbs of containers. Each tries all the names that it was given, and tells what failed one by one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::{AttachRequest, Engine, Left, LogOutput, LogRequest, Streams};

use super::{Failure, Outcome, Verb, container_tree, container_use, open, ps, run};
use crate::args::{AttachArgs, LogsArgs, RenameArgs, StartArgs};
use crate::ui;

pub(super) fn verb(root: Option<PathBuf>, verb: Verb) -> Outcome {
    match verb {
        // These have docker's exit codes, all of them their own.
        Verb::Create(args) => Ok(run::create(root, *args)),
        Verb::Exec(args) => Ok(run::exec(root, args)),
        Verb::Start(args) => start(root, &args),
        Verb::Stop(args) => {
            each(root, &args.containers.names, |engine, name| engine.stop(name, args.time, args.signal))
        }
        Verb::Restart(args) => {
            each(root, &args.containers.names, |engine, name| engine.restart(name, args.time, args.signal, &note))
        }
        Verb::Kill(args) => each(root, &args.containers.names, |engine, name| engine.kill(name, args.signal)),
        Verb::Rm(args) => each(root, &args.containers.names, |engine, name| {
            match engine.remove_container(name, args.force, args.volumes) {
                // An empty name is a variable that is not set, and no container that is gone already.
                Err(error) if args.force && !name.is_empty() && error.is_missing_container() => Ok(()),
                result => result,
            }
        }),
        Verb::Pause(args) => each(root, &args.names, |engine, name| engine.pause(name)),
        Verb::Unpause(args) => each(root, &args.names, |engine, name| engine.unpause(name)),
        Verb::Wait(args) => wait(root, &args.names),
        Verb::Attach(args) => attach(root, args),
        Verb::Logs(args) => logs(root, &args),
        Verb::Ps(args) => ps::ps(root, &args),
        Verb::Rename(args) => rename(root, &args),
        Verb::Port(args) => super::network::port(root, &args),
        Verb::Top(args) => container_use::top(root, &args),
        Verb::Stats(args) => container_use::stats(root, &args),
        Verb::Update(args) => container_use::update(root, &args),
        Verb::Diff(args) => container_tree::diff(root, &args),
        Verb::Commit(args) => container_tree::commit(root, args),
        Verb::Export(args) => container_tree::export(root, &args),
        Verb::Cp(args) => container_tree::copy(root, args),
    }
}

pub(super) fn note(sentence: String) {
    ui::note(&sentence);
}

/// Does the same to each, and prints its name as the user wrote it.
pub(super) fn each(
    root: Option<PathBuf>,
    names: &[String],
    mut verb: impl FnMut(&Engine, &str) -> engine::Result<()>,
) -> Outcome {
    let engine = open(root)?;
    let mut code = 0;
    for name in names {
        match verb(&engine, name) {
            Ok(()) => ui::line(name)?,
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}

/// All that is printed, and perhaps what is typed.
fn all_and(stdin: bool) -> Streams {
    Streams { stdin, stdout: true, stderr: true }
}

fn start(root: Option<PathBuf>, args: &StartArgs) -> Outcome {
    let names = &args.containers.names;
    if !args.attach && !args.interactive {
        return each(root, names, |engine, name| engine.start(name, &note));
    }
    let [name] = names.as_slice() else {
        return Err(Failure::usage("--attach and --interactive take one container"));
    };
    let request = AttachRequest {
        streams: all_and(args.interactive),
        signals: true,
        detach_keys: run::keys(args.detach_keys.clone()),
    };
    let left = open(root)?.start_attached(name, &request, &note)?;
    Ok(code_of(left))
}

fn code_of(left: Left) -> u8 {
    match left {
        Left::Ended(code) => u8::try_from(code).unwrap_or(125),
        Left::Detached => 0,
    }
}

fn attach(root: Option<PathBuf>, args: AttachArgs) -> Outcome {
    let request = AttachRequest {
        streams: all_and(!args.no_stdin),
        signals: args.sig_proxy,
        detach_keys: run::keys(args.detach_keys),
    };
    Ok(code_of(open(root)?.attach(&args.container.name, &request)?))
}

fn wait(root: Option<PathBuf>, names: &[String]) -> Outcome {
    let engine = open(root)?;
    let mut code = 0;
    for name in names {
        match engine.wait_for_end(name) {
            Ok(ended) => ui::line(&ended.to_string())?,
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}

fn rename(root: Option<PathBuf>, args: &RenameArgs) -> Outcome {
    open(root)?.rename_container(&args.container.name, &args.new)?;
    Ok(0)
}

/// As docker writes them: NAME=VALUE with commas between, in the way of a URL's query.
fn details(attributes: &BTreeMap<String, String>) -> String {
    let escaped = |text: &str| {
        let byte = |byte: u8| match byte {
            b' ' => "+".to_owned(),
            byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    let pairs: Vec<String> =
        attributes.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
    pairs.join(",")
}

/// Standard output and errors go where the container wrote them.
fn logs(root: Option<PathBuf>, args: &LogsArgs) -> Outcome {
    let request = LogRequest { since: args.since, until: args.until, tail: args.tail.0, follow: args.follow };
    open(root)?.logs(&args.container.name, request, &mut |line| {
        let mut text = String::new();
        if args.timestamps {
            text = format!("{} ", line.time);
        }
        if args.details {
            text.push_str(&details(&line.attrs));
            text.push(' ');
        }
        text.push_str(&line.log);
        match line.stream {
            LogOutput::Stdout => ui::bytes(text.as_bytes()),
            LogOutput::Stderr => ui::error_bytes(text.as_bytes()),
        }
    })?;
    Ok(0)
}
