//! What of its contexts a plan reads: which paths matter to a build, and which do not.

use std::path::Path;

use grammar::{Dockerfile, IgnoreRules};

use crate::bases::BaseImages;
use crate::mounts::{MountFrom, Mounted};
use crate::options::Options;
use crate::paths::clean;
use crate::plan::{CopySource, Op, Plan, Planner, plan_with};

/// One path or pattern of a context that a step reads.
#[derive(Debug, Clone)]
pub struct Reads {
    /// The named context; the build's own when absent.
    pub context: Option<String>,
    /// From the context's root, clean; empty for all of it.
    source: String,
    /// `--exclude`.
    exclude: IgnoreRules,
}

impl Reads {
    /// All of a context.
    pub fn all(context: Option<String>) -> Reads {
        Reads { context, source: String::new(), exclude: IgnoreRules::none() }
    }

    fn new(context: Option<String>, source: &str, exclude: &[String]) -> Reads {
        let source = clean(Path::new(source)).to_string_lossy().trim_start_matches('/').to_owned();
        let exclude = IgnoreRules::parse(&exclude.join("\n")).unwrap_or_else(|_| IgnoreRules::none());
        Reads { context, source, exclude }
    }

    /// Whether what is at this path of the context is part of it, or was a way to it.
    pub fn concerns(&self, path: &Path) -> bool {
        let wanted = self.source.split('/').filter(|part| !part.is_empty());
        let mut found = path.components();
        for pattern in wanted {
            let Some(name) = found.next() else { return true };
            let name = name.as_os_str().to_string_lossy();
            if !grammar::glob_match(pattern, &name).unwrap_or(false) && pattern != name {
                return false;
            }
        }
        let below = found.as_path().to_string_lossy();
        below.is_empty() || !self.exclude.is_ignored(&below)
    }
}

impl Plan {
    /// What it reads of its contexts.
    pub fn reads(&self) -> Vec<Reads> {
        let mut reads = Vec::new();
        for step in self.steps() {
            match &step.op {
                Op::Copy(op) if op.from_context => {
                    let paths = op.sources.iter().filter_map(|source| match source {
                        CopySource::Path(path) => Some(path.as_str()),
                        CopySource::Url(_) | CopySource::Git(_) | CopySource::Inline { .. } => None,
                    });
                    reads.extend(paths.map(|path| Reads::new(op.context.clone(), path, &op.exclude)));
                }
                Op::Run(op) => {
                    let binds = op.mounts.iter().filter_map(|mount| match &mount.what {
                        Mounted::Bind { from: MountFrom::Context, source, .. } => Some(source.to_string_lossy()),
                        _ => None,
                    });
                    reads.extend(binds.map(|source| Reads::new(None, &source, &[])));
                }
                _ => {}
            }
        }
        reads
    }
}

/// What a build of a file would read of its contexts; `None` when it has no plan. Needs no image: those in `images` are
/// looked into for their ONBUILD.
pub fn reads(dockerfile: &Dockerfile, options: &Options, images: &BaseImages) -> Option<Vec<Reads>> {
    let planner = Planner::for_checks(IgnoreRules::none());
    plan_with(planner, dockerfile, options, images).0.ok().map(|plan| plan.reads())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_read_is_told_from_what_they_do_not() {
        let text = "FROM scratch AS a\nCOPY --exclude=*.md src lib/*.c /\nADD other::x /\nFROM scratch\nCOPY --from=a /z /\nCOPY --from=tools /bin /\n\
            FROM unused\nCOPY never /\n";
        let parsed = grammar::parse(&grammar::Source::new("Dockerfile", text));
        let contexts = [("tools".to_owned(), crate::options::NamedContext::Files)].into();
        let options = Options { target: Some("1".to_owned()), contexts, ..Options::default() };
        let reads = reads(&parsed.dockerfile, &options, &BaseImages::new()).unwrap();
        let concerned = |context: Option<&str>, path: &str| {
            reads.iter().any(|one| one.context.as_deref() == context && one.concerns(Path::new(path)))
        };
        for path in ["src", "src/a/b", "lib", "lib/x.c", "lib/x.c/deep", "other::x", ""] {
            assert!(concerned(None, path), "{path}");
        }
        for path in ["srcs", "src/README.md", "lib/x.h", "never", "bin"] {
            assert!(!concerned(None, path), "{path}");
        }
        assert!(concerned(Some("tools"), "bin/x") && !concerned(Some("tools"), "src"));
    }
}
