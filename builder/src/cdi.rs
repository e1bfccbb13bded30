//! The Container Device Interface: what the specifications of a machine say of a device. Pure: texts go in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use grammar::DeviceRequest;
use serde::Deserialize;

/// The annotation by which a device has a class of its own, as with BuildKit.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// Most devices of one request.
const MOST_DEVICES: usize = 256;

/// One file.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Spec {
    #[serde(rename = "cdiVersion")]
    _version: String,
    /// `VENDOR/CLASS`
    kind: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: Edits,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Device {
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    container_edits: Edits,
}

/// What a device changes of a container. A field that is not known is refused: it would be missed inside.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    pub(crate) mounts: Vec<DeviceMount>,
    #[serde(rename = "additionalGids")]
    pub(crate) groups: Vec<u32>,
    hooks: Vec<serde_json::Value>,
    intel_rdt: Option<serde_json::Value>,
    net_devices: Vec<serde_json::Value>,
}

/// A node below /dev.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceNode {
    pub(crate) path: PathBuf,
    pub(crate) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) major: Option<i64>,
    pub(crate) minor: Option<i64>,
    pub(crate) file_mode: Option<u32>,
    pub(crate) permissions: Option<String>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// A file or directory of the host.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeviceMount {
    pub(crate) host_path: PathBuf,
    pub(crate) container_path: PathBuf,
    #[serde(default)]
    pub(crate) options: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
}

impl Format {
    /// By the ending of a file's name. What has another is no specification.
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "json" => Some(Format::Json),
            "yaml" => Some(Format::Yaml),
            _ => None,
        }
    }
}

impl Spec {
    /// Reads one, whose size the caller has bounded.
    ///
    /// # Errors
    /// The reason, with the place in the text.
    pub(crate) fn parse(text: &[u8], format: Format) -> Result<Spec, String> {
        match format {
            Format::Json => serde_json::from_slice(text).map_err(|error| error.to_string()),
            Format::Yaml => {
                // The reason is a line of a sentence.
                let options = serde_saphyr::options! { with_snippet: false };
                serde_saphyr::from_slice_with_options(text, options).map_err(|error| error.to_string())
            }
        }
    }
}

/// What a request comes to, the edits of a specification before those of its devices. Empty where nothing has the device.
/// `levels` are the specifications of directories, the least first: a later directory hides equal names of earlier ones.
///
/// # Errors
/// The reason, when the device is described twice, or needs what a step of a build does not have.
pub(crate) fn resolve<'a>(levels: &'a [Vec<Spec>], request: &DeviceRequest) -> Result<Vec<&'a Edits>, String> {
    let mut found: BTreeMap<(&str, &str), (usize, &Spec, &Device)> = BTreeMap::new();
    for (level, spec) in
        levels.iter().enumerate().flat_map(|(level, specs)| specs.iter().map(move |spec| (level, spec)))
    {
        for device in spec.devices.iter().filter(|device| matches(request, spec, device)) {
            let name = (spec.kind.as_str(), device.name.as_str());
            match found.get(&name) {
                Some((known, ..)) if *known == level => {
                    return Err(format!("{}={} is described by two files of one directory", spec.kind, device.name));
                }
                _ => drop(found.insert(name, (level, spec, device))),
            }
        }
    }
    let all = request.name.ends_with("=*") || found.values().any(|(_, spec, _)| spec.kind != request.kind());
    if found.len() > MOST_DEVICES {
        return Err(format!("more than {MOST_DEVICES} devices have this name"));
    }
    let chosen = found.into_values().take(if all { MOST_DEVICES } else { 1 });
    let mut edits: Vec<&Edits> = Vec::new();
    for (_, spec, device) in chosen {
        for one in [&spec.container_edits, &device.container_edits] {
            one.check()?;
            if !edits.iter().any(|known| std::ptr::eq(*known, one)) {
                edits.push(one);
            }
        }
    }
    Ok(edits)
}

fn matches(request: &DeviceRequest, spec: &Spec, device: &Device) -> bool {
    match request.name.split_once('=') {
        Some((kind, name)) => spec.kind == kind && (name == "*" || device.name == name),
        None => {
            let class = device.annotations.get(CLASS).or_else(|| spec.annotations.get(CLASS));
            spec.kind == request.name || class.is_some_and(|class| *class == request.name)
        }
    }
}

impl Edits {
    /// A part that is left out silently would be missed inside.
    fn check(&self) -> Result<(), String> {
        let refused = |what: &str| Err(format!("its specification asks for {what}, which containers do not have"));
        if !self.hooks.is_empty() {
            return refused("hooks, programs that run on this machine");
        }
        if self.intel_rdt.is_some() {
            return refused("a class of the processor's caches (intelRdt)");
        }
        if !self.net_devices.is_empty() {
            return refused("network devices");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn spec(kind: &str, rest: &str) -> Spec {
        let text = format!(r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", {rest}}}"#);
        Spec::parse(text.as_bytes(), Format::Json).unwrap()
    }

    fn env(levels: &[Vec<Spec>], name: &str) -> Result<Vec<String>, String> {
        let request = DeviceRequest { name: name.to_owned(), required: true };
        Ok(resolve(levels, &request)?.into_iter().flat_map(|edits| edits.env.clone()).collect())
    }

    #[test]
    fn one_all_the_first_or_a_class_and_later_directories_hide_earlier_ones() {
        let two = r#""containerEdits": {"env": ["ALL=1"]}, "devices": [
            {"name": "a", "containerEdits": {"env": ["A=old"]}, "annotations": {"org.mobyproject.buildkit.device.class": "fast"}},
            {"name": "b", "containerEdits": {"env": ["B=1"]}}]"#;
        let over = r#""devices": [{"name": "a", "containerEdits": {"env": ["A=new"]}}]"#;
        let levels = [vec![spec("v.com/c", two)], vec![spec("v.com/c", over), spec("w.com/c", over)]];
        assert_eq!(env(&levels, "v.com/c=b").unwrap(), ["ALL=1", "B=1"]);
        assert_eq!(env(&levels, "v.com/c=a").unwrap(), ["A=new"]);
        assert_eq!(env(&levels, "v.com/c").unwrap(), ["A=new"]);
        assert_eq!(env(&levels, "v.com/c=*").unwrap(), ["A=new", "ALL=1", "B=1"]);
        assert_eq!(env(&levels[..1], "fast").unwrap(), ["ALL=1", "A=old"]);
        assert!(env(&levels, "v.com/c=z").unwrap().is_empty() && env(&levels, "x.com/c").unwrap().is_empty());
        let twice = [vec![spec("v.com/c", over), spec("v.com/c", over)]];
        assert!(env(&twice, "v.com/c=a").unwrap_err().contains("two files"));
    }

    #[test]
    fn what_a_step_cannot_have_is_refused() {
        let hook = r#""devices": [{"name": "a", "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/x"}]}}]"#;
        assert!(env(&[vec![spec("v/c", hook)]], "v/c=a").unwrap_err().contains("hooks"));
        let unknown =
            br#"{"cdiVersion": "1", "kind": "v/c", "devices": [{"name": "a", "containerEdits": {"magic": 1}}]}"#;
        assert!(Spec::parse(unknown, Format::Json).unwrap_err().contains("magic"));
    }

    #[test]
    fn yaml_says_the_same() {
        let text = "---\ncdiVersion: 0.5.0\nkind: v.com/c\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n\
            - name: a\n  containerEdits:\n    deviceNodes:\n    - path: /dev/x0\n      major: 195\n      fileMode: 438\n\
            - name: \"0\"\n  containerEdits:\n    env:\n    - B=yes\n";
        let spec = Spec::parse(text.as_bytes(), Format::Yaml).unwrap();
        assert_eq!(spec.devices[0].container_edits.device_nodes[0].file_mode, Some(438));
        assert_eq!(env(&[vec![spec]], "v.com/c=0").unwrap(), ["ALL=1", "B=yes"]);
        let unknown = text.replace("fileMode", "magic");
        let reason = Spec::parse(unknown.as_bytes(), Format::Yaml).unwrap_err();
        assert!(reason.contains("magic") && reason.contains("12") && reason.lines().count() == 1, "{reason}");
        // A billion laughs.
        let bomb: String = (0..40).fold("a0: &a0 [x]\n".to_owned(), |text, level| {
            let next = level + 1;
            format!("{text}a{next}: &a{next} [*a{level}, *a{level}, *a{level}, *a{level}]\n")
        });
        assert!(Spec::parse(bomb.as_bytes(), Format::Yaml).is_err());
    }
}
