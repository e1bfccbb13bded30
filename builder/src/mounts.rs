//! Mounts of a RUN as the plan has them: targets absolute, variables replaced, sources named by context or input.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use grammar::{DeviceRequest, Mount, MountKind, Run, Sharing};

use crate::error::{Error, Result};
use crate::paths::{absolute, clean};
use crate::plan::StepId;
use crate::walk::StageWalk;

/// Where a secret is shown that names no target.
const SECRETS: &str = "/run/secrets";

/// Where an agent's socket is shown that names no target.
const AGENTS: &str = "/run/buildkit/ssh_agent";

/// One mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RunMount {
    /// Where the step sees it: absolute and clean. None for a secret that is a variable only.
    pub target: Option<PathBuf>,
    /// What is mounted.
    pub what: Mounted,
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Mounted {
    /// Files of the context, a stage or an image.
    Bind {
        /// Whose.
        from: MountFrom,
        /// The path there: absolute and clean, so that it begins at the root of that tree.
        source: PathBuf,
        /// Writes are refused; else they are thrown away.
        read_only: bool,
    },
    /// A directory that lives from build to build.
    Cache {
        /// Its name.
        id: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// The input whose files are its first content, and their path there.
        seed: Option<(usize, PathBuf)>,
        /// Writes are refused.
        read_only: bool,
        /// Of the directory.
        file: FileRights,
    },
    /// Memory.
    Tmpfs {
        /// Most bytes.
        size: Option<u64>,
    },
    /// A secret of the caller, as a file, a variable, or both.
    Secret {
        /// Its name.
        id: String,
        /// The variable.
        env: Option<String>,
        /// The build fails without it.
        required: bool,
        /// Of the file.
        file: FileRights,
    },
    /// A socket that leads to the caller's agent.
    Ssh {
        /// Which agent.
        id: String,
        /// The build fails without it.
        required: bool,
        /// Of the socket.
        file: FileRights,
    },
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct FileRights {
    /// Permission bits.
    pub mode: Option<u32>,
    /// User.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// Whose files a bind shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountFrom {
    /// The build context's.
    Context,
    /// Those of the step's input of this number.
    Input(usize),
}

impl StageWalk<'_> {
    /// The mounts of a RUN, and the steps whose trees they show; those follow the parent among the step's inputs.
    pub(crate) fn run_mounts(&mut self, run: &Run, index: Option<usize>) -> Result<(Vec<RunMount>, Vec<StepId>)> {
        let mut mounts = Vec::new();
        let mut inputs: Vec<StepId> = Vec::new();
        let mut origins = self.mount_origins(index).into_iter();
        let mut agents = 0;
        for flag in &run.mounts {
            let help = "write `--mount=type=TYPE,target=PATH,…`; each type has its own options";
            let invalid = |walk: &Self, cause: String| Error::from(walk.at(flag.span, "K0322", cause).help(help));
            let resolved = flag.resolve(&self.scope);
            let (mount, unmatched) = resolved.map_err(|error| invalid(self, error.to_string()))?;
            self.warn_undefined(&unmatched, flag.span);
            let from = match flag.from() {
                Some(name) if index.is_none() => {
                    return Err(invalid(self, format!("an ONBUILD RUN --mount=from={name} is not supported")));
                }
                Some(_) => origins.next(),
                None => None,
            };
            let number = match from {
                Some(input) => {
                    let step = self.input_step(&input)?;
                    // The parent is input 0.
                    Some(
                        inputs.iter().position(|known| *known == step).unwrap_or_else(|| {
                            inputs.push(step);
                            inputs.len() - 1
                        }) + 1,
                    )
                }
                None => None,
            };
            let read = Reading { mount: &mount, cwd: self.state.working_dir(), number, agents: &mut agents };
            mounts.push(read.mount().map_err(|cause| invalid(self, cause))?);
        }
        Ok((mounts, inputs))
    }

    /// `network=host` and `security=insecure` need the caller's leave.
    pub(crate) fn check_entitlements(&mut self, run: &Run, at: grammar::Span) {
        use crate::options::Entitlement;
        let needed = match (run.network.as_deref(), run.security.as_deref()) {
            (_, Some("insecure")) => Some((Entitlement::SecurityInsecure, "--security=insecure")),
            (Some("host"), _) => Some((Entitlement::NetworkHost, "--network=host")),
            _ => None,
        };
        let needed = needed.filter(|(entitlement, _)| !self.options.allow.contains(entitlement));
        // A check performs nothing, so it needs nobody's leave.
        if let (Some((entitlement, flag)), None) = (needed, &self.planner.only_checks) {
            let message = format!("RUN {flag} is not allowed: it gives the step more of this machine");
            let diagnostic = self.at(at, "K0321", message);
            let help = format!("if you trust this file, build with `--allow {entitlement}`");
            self.planner.refuse(diagnostic.help(help));
        }
    }

    /// The devices of a RUN; each needs the caller's leave.
    pub(crate) fn run_devices(&mut self, run: &Run) -> Result<Vec<DeviceRequest>> {
        use crate::options::Entitlement;
        let mut devices = Vec::new();
        for word in &run.devices {
            let text = self.expand(word)?;
            let help = "write `--device=VENDOR/CLASS=DEVICE`, and `,required` behind it where the step fails without";
            let invalid = |cause: String| self.at(word.span(), "K0320", format!("invalid device: {cause}")).help(help);
            let device = DeviceRequest::parse(&text).map_err(|error| invalid(error.to_string()))?;
            let allowed = self.options.allow.iter().any(|entitlement| match entitlement {
                Entitlement::Devices => true,
                Entitlement::Device(name) => *name == device.name || *name == device.kind(),
                Entitlement::NetworkHost | Entitlement::SecurityInsecure => false,
            });
            if !allowed && self.planner.only_checks.is_none() {
                let message =
                    format!("RUN --device={} is not allowed: it gives the step more of this machine", device.name);
                let help = format!("if you trust this file, build with `--allow device={}`", device.name);
                let diagnostic = self.at(word.span(), "K0321", message).help(help);
                self.planner.refuse(diagnostic);
            }
            if !devices.contains(&device) {
                devices.push(device);
            }
        }
        Ok(devices)
    }
}

/// One mount while it is read.
struct Reading<'a> {
    mount: &'a Mount,
    cwd: &'a str,
    /// The input that `from` names.
    number: Option<usize>,
    /// How many agents came before.
    agents: &'a mut usize,
}

impl Reading<'_> {
    fn mount(self) -> std::result::Result<RunMount, String> {
        let Mount { kind, mode, uid, gid, required, .. } = *self.mount;
        let file = FileRights { mode, uid, gid };
        let source = self.mount.source.as_deref().unwrap_or_default();
        Ok(match kind {
            MountKind::Bind => {
                let from = self.number.map_or(MountFrom::Context, MountFrom::Input);
                let source = clean(Path::new(source));
                let what = Mounted::Bind { from, source, read_only: self.mount.read_only };
                RunMount { target: Some(self.directory()?), what }
            }
            MountKind::Cache => {
                if leaves_root(Path::new(source)) {
                    return Err(format!("the source {source:?} of a cache mount leads out of its root"));
                }
                if self.number.is_none() && !source.is_empty() {
                    return Err("the source of a cache mount needs a from: a cache without one begins empty".to_owned());
                }
                let target = self.directory()?;
                let id = self.mount.id.clone().filter(|id| !id.is_empty());
                let id = id.unwrap_or_else(|| clean(&target).to_string_lossy().into_owned());
                let seed = self.number.map(|number| (number, clean(Path::new(source))));
                let (sharing, read_only) = (self.mount.sharing, self.mount.read_only);
                RunMount { target: Some(target), what: Mounted::Cache { id, sharing, seed, read_only, file } }
            }
            MountKind::Tmpfs => {
                RunMount { target: Some(self.directory()?), what: Mounted::Tmpfs { size: self.mount.size } }
            }
            MountKind::Secret => {
                let named = self.mount.source.clone().or_else(|| self.mount.id.clone()).filter(|id| !id.is_empty());
                let id = match (named, self.mount.target.as_deref().and_then(base_name)) {
                    (Some(id), _) => id,
                    (None, Some(name)) => name,
                    (None, None) => return Err("invalid secret mount. one of source, target required".to_owned()),
                };
                let env = self.mount.env.clone();
                if let Some(name) = env.as_deref().filter(|name| name.is_empty() || name.contains('=')) {
                    return Err(format!("{name:?} is no name of a variable"));
                }
                let target = match (&self.mount.target, &env) {
                    (Some(_), _) => Some(self.directory()?),
                    (None, Some(_)) => None,
                    (None, None) => {
                        Some(Path::new(SECRETS).join(base_name(&id).unwrap_or_else(|| "secret".to_owned())))
                    }
                };
                RunMount { target, what: Mounted::Secret { id, env, required, file } }
            }
            MountKind::Ssh => {
                let target = match &self.mount.target {
                    Some(_) => self.directory()?,
                    None => PathBuf::from(format!("{AGENTS}.{}", self.agents)),
                };
                *self.agents += 1;
                let id = self.mount.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| "default".to_owned());
                RunMount { target: Some(target), what: Mounted::Ssh { id, required, file } }
            }
        })
    }

    /// The target, relative to WORKDIR; nothing may hide the root, or what the kernel tells of itself.
    fn directory(&self) -> std::result::Result<PathBuf, String> {
        let written = self.mount.target.as_deref().unwrap_or_default();
        let target = absolute(self.cwd, written);
        if target.parent().is_none() {
            return Err(format!("invalid mount target {:?}", if written.is_empty() { "/" } else { written }));
        }
        if target.starts_with("/proc") {
            return Err(format!("invalid mount target {written:?}: /proc belongs to the kernel"));
        }
        Ok(target)
    }
}

fn base_name(path: &str) -> Option<String> {
    let name = clean(Path::new(path)).file_name()?.to_string_lossy().into_owned();
    Some(name)
}

/// Whether `..` climbs above where the path begins.
fn leaves_root(path: &Path) -> bool {
    let mut depth = 0_usize;
    for component in path.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return true,
            },
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    false
}

/// The stages that `--no-cache-filter` names, by name or number.
pub(crate) fn is_filtered(filter: &BTreeSet<String>, stage: &grammar::Stage) -> bool {
    let name = stage.name.as_deref().unwrap_or_default();
    filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name) || *wanted == stage.index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_d11_a_path_that_climbs_out_is_seen() {
        for path in ["..", "../../..", "a/../..", "/..", "a/../../b"] {
            assert!(leaves_root(Path::new(path)), "{path}");
        }
        for path in ["", "/", "a/..", "a/../b", "./a"] {
            assert!(!leaves_root(Path::new(path)), "{path}");
        }
    }
}
