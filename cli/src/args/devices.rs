//! `--device` and `--gpus`.

use engine::{DeviceRights, DeviceSpec};

/// One `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeviceFlag {
    Path(DeviceSpec),
    /// `VENDOR/CLASS=DEVICE`.
    Named(String),
}

/// The devices of one `--gpus`, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpus(pub(crate) Vec<String>);

pub(super) fn gpus(text: &str) -> Result<Gpus, String> {
    let text = text.trim_matches('"');
    if text == "all" {
        return Ok(Gpus(vec!["nvidia.com/gpu=all".to_owned()]));
    }
    match text.strip_prefix("device=").filter(|list| list.split(',').all(|one| !one.is_empty())) {
        Some(list) => Ok(Gpus(list.split(',').map(|one| format!("nvidia.com/gpu={one}")).collect())),
        None => Err("it must be all, or device=0,1: which GPUs, not how many".to_owned()),
    }
}

pub(super) fn device(text: &str) -> Result<DeviceFlag, String> {
    if let Some((kind, name)) = text.split_once('=').filter(|(kind, _)| !kind.starts_with('/')) {
        let valid = kind.split('/').count() == 2 && kind.split('/').all(|part| !part.is_empty()) && !name.is_empty();
        return match valid {
            true => Ok(DeviceFlag::Named(text.to_owned())),
            false => Err("names of devices are VENDOR/CLASS=DEVICE".to_owned()),
        };
    }
    let parts: Vec<&str> = text.split(':').collect();
    let usual = DeviceRights::default();
    let (source, target, rights) = match parts.as_slice() {
        [source] => (*source, *source, usual),
        [source, rest] => match DeviceRights::parse(rest) {
            Some(rights) => (*source, *source, rights),
            None => (*source, *rest, usual),
        },
        [source, target, rights] => {
            let rights = DeviceRights::parse(rights).ok_or_else(|| format!("`{rights}` must be made of r, w and m"))?;
            (*source, *target, rights)
        }
        _ => return Err("it must be SOURCE[:TARGET[:rwm]]".to_owned()),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err("devices are absolute paths, as in /dev/fuse, or names as in vendor.com/class=device".to_owned());
    }
    Ok(DeviceFlag::Path(DeviceSpec { source: source.into(), target: target.into(), rights }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_paths_or_names() {
        assert!(device("/dev/fuse:/dev/f:rwm").is_ok() && device("/dev/fuse:x").is_err() && device("fuse").is_err());
        assert_eq!(device("v.com/c=d").unwrap(), DeviceFlag::Named("v.com/c=d".to_owned()));
        assert!(device("v.com=d").is_err() && gpus("2").is_err() && gpus("device=").is_err());
        assert_eq!(gpus("device=0,1").unwrap().0, ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]);
    }
}
