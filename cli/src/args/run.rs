//! `dunnage run`.

use std::path::PathBuf;

use clap::Args;

use super::limits::LimitArgs;
use super::networking::NetworkArgs;
use super::{Pull, StorageArgs};
use engine::VolumeSpec;

/// Run a command in a new container
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage run --rm app                        the image's own command; its files go when it ends
  dunnage run --rm -it debian:bookworm bash   a shell
  dunnage run --rm -v \"$PWD:/src\" app make    with a directory of this machine

The exit code is the container's own; 125 when dunnage failed, 126 when the command cannot be executed, 127 when it is
not found, 128+n when signal n ended it.")]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// When to pull the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: Pull,
    /// Print nothing while the image is pulled
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Remove the container's files when it ends
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Variable, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// File with a variable a line; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Directory or file of this machine, as SOURCE:TARGET or SOURCE:TARGET:ro; can be repeated
    #[arg(short, long, value_name = "SPEC", value_parser = volume)]
    pub(crate) volume: Vec<VolumeSpec>,
    /// Working directory [default: the image's]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User, as NAME or ID, with :GROUP [default: the image's]
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME", value_parser = container_name)]
    pub(crate) name: Option<String>,
    /// Host name [default: the container's id]
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub(crate) hostname: Option<String>,
    /// Program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    /// No writing in the container's root
    #[arg(long)]
    pub(crate) read_only: bool,
    /// A tiny init as process 1: reaps, and hands signals on
    #[arg(long)]
    pub(crate) init: bool,
    /// All capabilities, no filter, the machine's devices
    #[arg(long)]
    pub(crate) privileged: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// Rule for devices that are made inside, as 'c 10:229 rwm'; can be repeated
    #[arg(long, value_name = "RULE", help_heading = "Limits")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Control group to make the container's in [default: dunnage]
    #[arg(long, value_name = "PATH", help_heading = "Limits")]
    pub(crate) cgroup_parent: Option<String>,
    /// Name or id of the image
    pub(crate) image: String,
    /// Command and its arguments [default: the image's]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

fn volume(text: &str) -> Result<VolumeSpec, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] | [source, target, "rw"] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        [_, _, option] => return Err(format!("the option `{option}` is not supported: ro and rw are")),
        _ => return Err("it must be SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    };
    if !source.starts_with(['/', '.']) {
        return Err(format!(
            "`{source}` names no directory: named volumes are not supported by this version, write ./{source} for a directory"
        ));
    }
    if !target.starts_with('/') {
        return Err(format!("the target `{target}` must be an absolute path"));
    }
    Ok(VolumeSpec { source: PathBuf::from(source), target: PathBuf::from(target), read_only })
}

fn container_name(text: &str) -> Result<String, String> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.len() > 1
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if valid {
        Ok(text.to_owned())
    } else {
        Err("names begin with a letter or digit, and hold letters, digits, `_`, `.` and `-`".to_owned())
    }
}

fn host_name(text: &str) -> Result<String, String> {
    let valid = !text.is_empty()
        && text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c))
        && !text.starts_with('-');
    if valid { Ok(text.to_owned()) } else { Err("a host name has up to 63 letters, digits, `-` and `.`".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_of_this_machine() {
        assert!(volume("/a:/b").is_ok() && volume("./a:/b:ro").is_ok_and(|spec| spec.read_only));
        for bad in ["/a", "name:/b", "/a:b", "/a:/b:z", "/a:/b:ro:x"] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }
}
