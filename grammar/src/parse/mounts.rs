//! `RUN --mount`: comma-separated options to a typed mount.
//!
//! Which options a type has, and which values, is known when variables are: values are expanded, `from` alone is not.

use std::collections::BTreeSet;

use crate::nearest::nearest;
use crate::rules;
use crate::source::Span;
use crate::values::{ValueError, parse_bool, parse_size};
use crate::word::{Scope, Word};

/// `--mount=…` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    /// The comma-separated options.
    pub text: String,
    /// The file's escape character.
    pub escape: char,
    /// Its place.
    pub span: Span,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// A tree of the context, a stage or an image.
    Bind,
    /// A directory that lives from build to build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A secret of the caller.
    Secret,
    /// The caller's SSH agent.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// All.
    Shared,
    /// Each writer has its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount of a RUN.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// The stage or image that a bind, or a cache's first content, comes from.
    pub from: Option<String>,
    /// The path there; of a secret its id.
    pub source: Option<String>,
    /// Where to, as written.
    pub target: Option<String>,
    /// Writes are refused.
    pub read_only: bool,
    /// Of a cache.
    pub sharing: Sharing,
    /// Of a cache, a secret or an agent.
    pub id: Option<String>,
    /// Most bytes of a tmpfs.
    pub size: Option<u64>,
    /// The build fails when the secret or agent is not there.
    pub required: bool,
    /// Of what is made.
    pub mode: Option<u32>,
    /// Of what is made.
    pub uid: Option<u32>,
    /// Of what is made.
    pub gid: Option<u32>,
    /// The variable that holds the secret.
    pub env: Option<String>,
}

type Result<T> = std::result::Result<T, ValueError>;

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];
const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];
const KEYS: [&str; 18] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
];

impl MountFlag {
    /// `from=` as written: the stage or image has to be known before any variable is.
    pub fn from(&self) -> Option<String> {
        let fields = rules::comma_separated(&self.text)?;
        fields.iter().find_map(|field| {
            let (key, value) = field.split_once('=')?;
            key.eq_ignore_ascii_case("from").then(|| value.to_owned())
        })
    }

    /// Reads the options; variables come from `scope`. Gives also the names that had no value.
    ///
    /// # Errors
    /// What is wrong with an option, in one sentence.
    pub fn resolve(&self, scope: &dyn Scope) -> Result<(Mount, BTreeSet<String>)> {
        let fields = rules::comma_separated(&self.text)
            .ok_or_else(|| ValueError(format!("a quote stands inside an option: {}", self.text)))?;
        let mut options = Options::default();
        let mut unmatched = BTreeSet::new();
        for field in &fields {
            match field.split_once('=') {
                None => options.bare(&field.to_lowercase(), field)?,
                Some((key, value)) => {
                    let key = key.to_lowercase();
                    let word = Word::new(value, self.escape, self.span);
                    let value = match key.as_str() {
                        "from" => value.to_owned(),
                        _ => {
                            let expansion = word.expand(scope).map_err(|error| ValueError(error.to_string()))?;
                            unmatched.extend(expansion.unmatched);
                            expansion.text
                        }
                    };
                    options.set(&key, &value, field)?;
                }
            }
        }
        Ok((options.finish()?, unmatched))
    }
}

/// Options while they are read. The type comes first or not at all: options before it are those of a bind.
#[derive(Default)]
struct Options {
    kind: Option<MountKind>,
    read_only: Option<bool>,
    sharing: Option<Sharing>,
    from: Option<String>,
    source: Option<String>,
    target: Option<String>,
    id: Option<String>,
    size: Option<u64>,
    required: bool,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    env: Option<String>,
}

impl Options {
    fn kind(&self) -> MountKind {
        self.kind.unwrap_or(MountKind::Bind)
    }

    fn has_credentials(&self) -> bool {
        matches!(self.kind(), MountKind::Secret | MountKind::Ssh)
    }

    fn unexpected(&self, key: &str) -> ValueError {
        ValueError(format!("unexpected key '{key}' for mount type '{}'", name_of(self.kind())))
    }

    /// An option without a value.
    fn bare(&mut self, key: &str, field: &str) -> Result<()> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" if self.has_credentials() => self.required = true,
            "required" => return Err(self.unexpected(key)),
            _ => return Err(ValueError(format!("invalid field '{field}' must be a key=value pair"))),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<()> {
        let text = Some(value.to_owned());
        let switch = || parse_bool(value).ok_or_else(|| ValueError(format!("invalid value for {key}: {value}")));
        match key {
            "type" => self.kind = Some(one_of(&KINDS, &value.to_lowercase(), "unsupported mount type")?),
            "sharing" => self.sharing = Some(one_of(&SHARINGS, &value.to_lowercase(), "unsupported sharing value")?),
            "from" => self.from = text,
            "source" | "src" => self.source = text,
            "target" | "dst" | "destination" => self.target = text,
            "id" => self.id = text,
            "env" => self.env = text,
            "readonly" | "ro" => self.read_only = Some(switch()?),
            "readwrite" | "rw" => self.read_only = Some(!switch()?),
            "required" if self.has_credentials() => self.required = switch()?,
            "size" if self.kind() == MountKind::Tmpfs => self.size = Some(parse_size(value)?),
            "required" | "size" => return Err(self.unexpected(key)),
            "mode" => self.mode = Some(number(key, value, 8)?),
            "uid" => self.uid = Some(number(key, value, 10)?),
            "gid" => self.gid = Some(number(key, value, 10)?),
            _ => {
                let near = nearest(key, KEYS).map_or_else(String::new, |near| format!(", did you mean {near}?"));
                return Err(ValueError(format!("unexpected key '{key}' in '{field}'{near}")));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Mount> {
        let kind = self.kind();
        let refuse = |why: String| Err(ValueError(why));
        if matches!(kind, MountKind::Bind | MountKind::Tmpfs) {
            for (key, value) in [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)] {
                if value.is_some() {
                    return refuse(format!("{key} not allowed for \"{}\" type mounts", name_of(kind)));
                }
            }
        }
        if self.sharing.is_some() && kind != MountKind::Cache {
            return refuse(format!("invalid cache sharing set for {} mount", name_of(kind)));
        }
        if kind == MountKind::Secret {
            if self.from.is_some() {
                return refuse("secret mount should not have a from".to_owned());
            }
            if self.source.is_none() && self.target.is_none() && self.id.is_none() {
                return refuse("invalid secret mount. one of source, target required".to_owned());
            }
            if self.source.is_some() && self.id.is_some() {
                return refuse("both source and id can't be set".to_owned());
            }
        }
        Ok(Mount {
            kind,
            read_only: self.read_only.unwrap_or(!matches!(kind, MountKind::Cache | MountKind::Tmpfs)),
            sharing: self.sharing.unwrap_or(Sharing::Shared),
            from: self.from,
            source: self.source,
            target: self.target,
            id: self.id,
            size: self.size,
            required: self.required,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            env: self.env,
        })
    }
}

fn name_of(kind: MountKind) -> &'static str {
    KINDS.iter().find(|(_, known)| *known == kind).map_or("bind", |(name, _)| name)
}

fn one_of<T: Copy>(known: &[(&'static str, T)], value: &str, refusal: &str) -> Result<T> {
    if let Some((_, found)) = known.iter().find(|(name, _)| *name == value) {
        return Ok(*found);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let remedy = match nearest(value, names.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("it is one of {}", names.join(", ")),
    };
    Err(ValueError(format!("{refusal} {value:?}, {remedy}")))
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32> {
    u32::from_str_radix(value, radix).map_err(|_| ValueError(format!("invalid value {value} for {key}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn resolve(text: &str) -> Result<Mount> {
        let scope: BTreeMap<String, String> = [("ID".to_owned(), "npm".to_owned())].into();
        MountFlag { text: text.to_owned(), escape: '\\', span: Span::default() }.resolve(&scope).map(|(mount, _)| mount)
    }

    #[test]
    fn options_by_their_names_and_other_names() {
        let mount = resolve("type=cache,dst=/c,id=x-$ID,sharing=locked,uid=7,mode=0700").unwrap();
        assert_eq!((mount.kind, mount.target.as_deref()), (MountKind::Cache, Some("/c")));
        assert_eq!((mount.id.as_deref(), mount.sharing), (Some("x-npm"), Sharing::Locked));
        assert_eq!((mount.uid, mount.mode, mount.read_only), (Some(7), Some(0o700), false));
        let bind = resolve("\"src=a,b\",target=/x,from=$ID,rw").unwrap();
        assert_eq!((bind.source.as_deref(), bind.from.as_deref()), (Some("a,b"), Some("$ID")));
        assert!(!bind.read_only && resolve("target=/x").unwrap().read_only);
        assert_eq!(resolve("type=tmpfs,target=/x,size=1m").unwrap().size, Some(1 << 20));
        assert!(resolve("type=secret,id=a,required").unwrap().required);
    }

    #[test]
    fn what_a_type_does_not_have_is_refused() {
        for (text, why) in [
            ("target=/x,z", "invalid field 'z' must be a key=value pair"),
            ("type=cache,target=/x,size=5m", "unexpected key 'size' for mount type 'cache'"),
            ("type=cache,sharing=loked,target=/x", "did you mean locked?"),
            ("type=cahe,target=/x", "did you mean cache?"),
            ("target=/x,sharing=locked", "invalid cache sharing set for bind mount"),
            ("type=secret,id=a,source=b", "both source and id can't be set"),
            ("type=secret", "one of source, target required"),
            ("target=/x,mode=0700", "mode not allowed for \"bind\" type mounts"),
            ("targett=/x", "did you mean target?"),
            ("target=/x,required", "unexpected key 'required' for mount type 'bind'"),
            ("target=/x,ro=maybe", "invalid value for ro: maybe"),
        ] {
            let error = resolve(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
