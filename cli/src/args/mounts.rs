//! `--volume`, `--mount` and `--tmpfs` in docker's words.

use std::path::{Path, PathBuf};

use engine::{BindPropagation, MountKind, MountSpec, VolumeDraft};

use super::tmpfs::Tmpfs;

/// `[SOURCE:]TARGET[:OPTIONS]`.
pub(super) fn volume(text: &str) -> Result<MountSpec, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => return Err("it must be SOURCE:TARGET, SOURCE:TARGET:ro or TARGET".to_owned()),
    };
    let (mut read_only, mut no_copy, mut mapped) = (false, false, false);
    let mut propagation = BindPropagation::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" | "readonly" => read_only = true,
            // How it is mounted anyway.
            "rw" => {}
            "nocopy" => no_copy = true,
            "idmap" => mapped = true,
            // Without SELinux there is nothing to label, and docker says nothing either.
            "z" | "Z" if !std::path::Path::new("/sys/fs/selinux/enforce").exists() => {}
            "z" | "Z" => {
                return Err(
                    "files are not labelled for SELinux by this version: leave `z` out, and label them with chcon"
                        .to_owned(),
                );
            }
            _ => match BindPropagation::parse(option) {
                Some(asked) => propagation = asked,
                None => {
                    return Err(format!(
                        "the option `{option}` is not supported: ro, rw, nocopy, idmap and rshared are"
                    ));
                }
            },
        }
    }
    let target = target_of(target)?;
    let kind = match source {
        None => MountKind::Volume { name: None, no_copy, subpath: None, made_with: VolumeDraft::default() },
        Some(source) if source.starts_with(['/', '.', '~']) => {
            MountKind::Bind { source: absolute(source)?, make: true, recursive: true, propagation, mapped }
        }
        Some(name) => {
            let (name, made_with) = (Some(volume_name(name)?), VolumeDraft::default());
            MountKind::Volume { name, no_copy, subpath: None, made_with }
        }
    };
    if propagation != BindPropagation::default() && !matches!(kind, MountKind::Bind { .. }) {
        return Err(format!("`{}` is for directories of this machine, not for volumes", propagation.word()));
    }
    check_mapped(mapped, propagation, &kind)?;
    Ok(MountSpec { target, read_only, kind })
}

/// `idmap` is for what has the machine's owners, and makes a mount of its own of it.
fn check_mapped(mapped: bool, propagation: BindPropagation, kind: &MountKind) -> Result<(), String> {
    if mapped && !matches!(kind, MountKind::Bind { .. }) {
        return Err("`idmap` is for directories of this machine: volumes have mapped owners anyway".to_owned());
    }
    if mapped && propagation != BindPropagation::default() {
        return Err(format!("`idmap` and `{}` contradict each other", propagation.word()));
    }
    Ok(())
}

/// The fields of `--mount`.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<&'a str>,
    source: Option<&'a str>,
    target: Option<&'a str>,
    read_only: bool,
    no_copy: bool,
    not_recursive: bool,
    make: bool,
    mapped: bool,
    propagation: Option<BindPropagation>,
    subpath: Option<PathBuf>,
    made_with: VolumeDraft,
    /// Options of a tmpfs, as `--tmpfs` has them.
    tmpfs: Vec<String>,
}

/// `type=bind|volume|tmpfs,KEY=VALUE,…`.
pub(super) fn mount(text: &str) -> Result<MountSpec, String> {
    let mut fields = Fields::default();
    let columns = columns(text)?;
    for field in columns.iter().map(String::as_str) {
        let (key, value) = field.split_once('=').map_or((field, None), |(key, value)| (key, Some(value)));
        fields.set(key.trim(), value)?;
    }
    let target = target_of(fields.target.ok_or("it needs a target, as in dst=/data")?)?;
    let kind = match fields.kind.unwrap_or("volume") {
        "bind" => {
            let source = fields.source.ok_or("a bind needs a source, as in src=/host/dir")?;
            let source = absolute(source)?;
            if !fields.make && !source.exists() {
                return Err(format!("the source {} does not exist", source.display()));
            }
            let (recursive, propagation) = (!fields.not_recursive, fields.propagation.unwrap_or_default());
            MountKind::Bind { source, make: fields.make, recursive, propagation, mapped: fields.mapped }
        }
        "volume" => MountKind::Volume {
            name: fields.source.map(volume_name).transpose()?,
            no_copy: fields.no_copy,
            subpath: fields.subpath.take(),
            made_with: std::mem::take(&mut fields.made_with),
        },
        "tmpfs" if fields.source.is_some() => return Err("a tmpfs has no source".to_owned()),
        "tmpfs" => {
            let mut tmpfs = Tmpfs::default();
            fields.tmpfs.drain(..).try_for_each(|option| tmpfs.option(&option))?;
            tmpfs.kind()
        }
        other => return Err(format!("`{other}` is no type of mount that is supported: bind, volume and tmpfs are")),
    };
    if fields.made_with != VolumeDraft::default() {
        return Err("volume-opt and volume-label are for volumes".to_owned());
    }
    if let Some(option) = fields.tmpfs.first() {
        return Err(format!("`{option}` is for a tmpfs"));
    }
    if fields.propagation.is_some() && !matches!(kind, MountKind::Bind { .. }) {
        return Err("bind-propagation is for binds".to_owned());
    }
    check_mapped(fields.mapped, fields.propagation.unwrap_or_default(), &kind)?;
    Ok(MountSpec { target, read_only: fields.read_only, kind })
}

/// As of a file of comma-separated values: what is in quotes is one field, commas included.
fn columns(text: &str) -> Result<Vec<String>, String> {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            None => rest.split_once(',').map_or((rest, None), |(field, behind)| (field, Some(behind))),
            Some(quoted) => {
                let (field, behind) = quoted.split_once('"').ok_or("a quote is not closed")?;
                match behind.strip_prefix(',') {
                    None if !behind.is_empty() => return Err("a comma is missing behind a quote".to_owned()),
                    behind => (field, behind),
                }
            }
        };
        found.push(field.to_owned());
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(found),
        }
    }
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

impl<'a> Fields<'a> {
    fn set(&mut self, key: &str, value: Option<&'a str>) -> Result<(), String> {
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(format!("`{key}={other}` must be true or false")),
        };
        let needed = || value.filter(|value| !value.is_empty()).ok_or(format!("`{key}` needs a value"));
        match key {
            "type" => self.kind = Some(needed()?),
            "src" | "source" => self.source = Some(needed()?),
            "dst" | "destination" | "target" => self.target = Some(needed()?),
            "ro" | "readonly" => self.read_only = flag()?,
            "volume-nocopy" => self.no_copy = flag()?,
            "idmap" => self.mapped = flag()?,
            "bind-create-src" => self.make = flag()?,
            "volume-subpath" => self.subpath = Some(subpath(needed()?)?),
            "tmpfs-size" | "tmpfs-mode" => {
                self.tmpfs.push(format!("{}={}", key.trim_start_matches("tmpfs-"), needed()?));
            }
            "bind-recursive" => match needed()? {
                "enabled" | "readonly" | "writable" => {}
                "disabled" => self.not_recursive = true,
                other => return Err(format!("`bind-recursive={other}` must be enabled or disabled")),
            },
            // Docker's older word for it.
            "bind-nonrecursive" => self.not_recursive = flag()?,
            "bind-propagation" => {
                let word = needed()?;
                let known = "private, rprivate, slave, rslave, shared and rshared";
                let parsed = BindPropagation::parse(word);
                self.propagation = Some(parsed.ok_or_else(|| format!("`{word}` is no propagation: {known} are"))?);
            }
            "consistency" => {}
            "volume-label" => drop(self.made_with.labels.insert(pair(needed()?).0, pair(needed()?).1)),
            "volume-opt" => drop(self.made_with.options.insert(pair(needed()?).0, pair(needed()?).1)),
            "volume-driver" if needed()? == "local" => {}
            _ if Tmpfs::knows(key) => {
                self.tmpfs.push(value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}")));
            }
            _ => return Err(format!("`{key}` is not known: type, src, dst and readonly are")),
        }
        Ok(())
    }
}

/// `TARGET[:OPTIONS]`.
pub(super) fn tmpfs(text: &str) -> Result<MountSpec, String> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let mut tmpfs = Tmpfs::default();
    options.split(',').try_for_each(|option| tmpfs.option(option))?;
    Ok(MountSpec { target: target_of(target)?, read_only: tmpfs.read_only, kind: tmpfs.kind() })
}

fn target_of(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if !path.is_absolute() || path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("the target `{text}` must be an absolute path without `..`"));
    }
    if path == Path::new("/") {
        return Err("the target must not be the root itself".to_owned());
    }
    Ok(path.components().collect())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("the source `{text}` cannot be used: {error}"))
}

fn subpath(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    let inside = path.is_relative() && path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if inside { Ok(path) } else { Err(format!("the subpath `{text}` must be a path below the volume")) }
}

fn volume_name(name: &str) -> Result<String, String> {
    let valid = name.len() > 1
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    match name {
        "" => Err("the name of a volume, or a directory, is missing before the colon".to_owned()),
        _ if valid => Ok(name.to_owned()),
        path if path.starts_with('/') => Err(format!("`{path}` is no name of a volume; for a directory say type=bind")),
        _ => Err(format!("`{name}` is no name of a volume; a directory of this machine is a path, as ./{name}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_paths_names_or_nothing() {
        assert!(matches!(volume("/a:/b:ro").unwrap(), MountSpec { read_only: true, kind: MountKind::Bind { .. }, .. }));
        let named = volume("data:/b:nocopy").unwrap();
        let made_with = VolumeDraft::default();
        assert_eq!(
            named.kind,
            MountKind::Volume { name: Some("data".into()), no_copy: true, subpath: None, made_with }
        );
        assert!(matches!(volume("/b").unwrap().kind, MountKind::Volume { name: None, .. }));
        for bad in [
            "a:/b",
            "/a:b",
            "/a:/b:sshared",
            "data:/b:rshared",
            "data:/b:idmap",
            "/a:/b:idmap,rshared",
            "/a:/b:ro:x",
            "",
            "/a:/b/../c",
            "data:/",
        ] {
            assert!(volume(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mounts_are_fields() {
        let bind = mount("type=bind,src=/,dst=/m,readonly").unwrap();
        assert_eq!(
            bind.kind,
            MountKind::Bind {
                source: "/".into(),
                make: false,
                recursive: true,
                propagation: BindPropagation::Rprivate,
                mapped: false,
            }
        );
        assert!(bind.read_only);
        let tmpfs = mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        assert_eq!(tmpfs.kind, self::tmpfs("/t:size=1m,mode=700").unwrap().kind);
        assert_eq!(mount("type=tmpfs,dst=/t,ro,uid=5,noatime").unwrap(), self::tmpfs("/t:ro,uid=5,noatime").unwrap(),);
        let part = mount("src=vol,dst=/v,volume-subpath=a/b").unwrap();
        assert!(matches!(part.kind, MountKind::Volume { subpath: Some(_), .. }));
        let made =
            mount("src=vol,dst=/v,volume-label=a=b,volume-opt=type=tmpfs,\"volume-opt=o=size=1m,uid=5\"").unwrap();
        let MountKind::Volume { made_with, .. } = made.kind else { unreachable!() };
        assert_eq!(made_with.options.get("o").unwrap(), "size=1m,uid=5");
        assert_eq!((made_with.labels.len(), made_with.options.len()), (1, 2));
        for bad in [
            "src=vol,dst=/v,\"volume-opt=o=x",
            "src=vol,dst=/v,\"volume-opt=o=x\"y",
            "type=bind,src=/,dst=/v,volume-opt=type=tmpfs",
            "type=bind,dst=/m",
            "type=tmpfs,dst=/m,idmap",
            "type=volume,src=vol,dst=/m,uid=5",
            "type=bind,src=/,dst=/m,tmpfs-size=1m",
            "type=bind,src=/missing-source,dst=/m",
            "type=npipe,src=/a,dst=/m",
            "src=vol",
            "src=vol,dst=/v,volume-subpath=../x",
            "type=tmpfs,src=/a,dst=/m",
            "type=bind,src=/,dst=/m,bind-propagation=everywhere",
            "type=tmpfs,dst=/m,bind-propagation=rshared",
            "what=1,dst=/m",
        ] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tmpfs_has_options() {
        let spec = tmpfs("/t:size=1m,mode=700,exec").unwrap();
        let (options, attributes) = (Vec::new(), Vec::new());
        assert_eq!(
            spec.kind,
            MountKind::Tmpfs { size: Some(1 << 20), mode: Some(0o700), executable: true, options, attributes }
        );
        assert!(tmpfs("t").is_err() && tmpfs("/t:size=x").is_err() && tmpfs("/t:uid=x").is_err());
    }
}
