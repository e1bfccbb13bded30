//! Users: from a `USER` text and the image's passwd and group files to numbers. Reading those files out of the image is the caller's.
use std::path::PathBuf;

use crate::error::{Error, Result};

/// The most bytes of a passwd or group file that are looked at; a larger file is refused.
pub const USER_FILE_LIMIT: usize = 1 << 20;
const MAX_ID: u32 = i32::MAX as u32;
const MAX_GROUPS: usize = 65_536;

/// The numbers that a process runs under. The default is root.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct UserIds {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups; the primary group is always added by the runtime.
    pub groups: Vec<u32>,
}

/// What a `USER` text means in an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedUser {
    /// The numbers.
    pub ids: UserIds,
    /// The home directory; `/` for a user that the image does not know.
    pub home: PathBuf,
    /// The name, when the image knows one.
    pub name: Option<String>,
}

/// Looks up `user`, `uid`, `user:group` and every mix of names and numbers. An empty text is root; a number is never taken for a name.
pub fn resolve_user(spec: &str, passwd: &[u8], group: &[u8]) -> Result<ResolvedUser> {
    check_size(spec, "/etc/passwd", passwd)?;
    check_size(spec, "/etc/group", group)?;
    let (user, group_part) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let mut resolved = resolve_name(spec, if user.is_empty() { "0" } else { user }, passwd)?;
    match group_part {
        Some(name) => resolved.ids.gid = resolve_group(spec, name, group)?,
        None => resolved.ids.groups = memberships(spec, resolved.name.as_deref(), group)?,
    }
    if !resolved.ids.groups.contains(&resolved.ids.gid) {
        resolved.ids.groups.insert(0, resolved.ids.gid);
    }
    Ok(resolved)
}

fn check_size(spec: &str, file: &str, content: &[u8]) -> Result<()> {
    if content.len() > USER_FILE_LIMIT {
        return Err(failure(spec, format!("the image's {file} is larger than {USER_FILE_LIMIT} bytes; shorten it")));
    }
    Ok(())
}

fn resolve_name(spec: &str, user: &str, passwd: &[u8]) -> Result<ResolvedUser> {
    let number = parse_id(spec, user)?;
    let found = entries::<7>(passwd).find_map(|[name, _, uid, gid, _, home, _]| {
        let uid = valid_id(uid)?;
        let matches = number.map_or(name == user.as_bytes(), |number| number == uid);
        matches.then_some((name, uid, valid_id(gid)?, home))
    });
    match (found, number) {
        (Some((name, uid, gid, home)), _) => Ok(ResolvedUser {
            ids: UserIds { uid, gid, groups: Vec::new() },
            home: if home.starts_with(b"/") { bytes_to_path(home) } else { PathBuf::from("/") },
            name: Some(String::from_utf8_lossy(name).into_owned()),
        }),
        (None, Some(uid)) => Ok(ResolvedUser {
            ids: UserIds { uid, gid: 0, groups: Vec::new() },
            home: PathBuf::from(if uid == 0 { "/root" } else { "/" }),
            name: None,
        }),
        (None, None) => {
            Err(failure(spec, format!("no user {user:?} in the image's /etc/passwd; add it or give a number")))
        }
    }
}

fn resolve_group(spec: &str, group: &str, file: &[u8]) -> Result<u32> {
    if let Some(number) = parse_id(spec, group)? {
        return Ok(number);
    }
    entries::<4>(file)
        .filter(|[name, ..]| *name == group.as_bytes())
        .find_map(|[_, _, gid, _]| valid_id(gid))
        .ok_or_else(|| failure(spec, format!("no group {group:?} in the image's /etc/group; add it or give a number")))
}

fn memberships(spec: &str, name: Option<&str>, file: &[u8]) -> Result<Vec<u32>> {
    let Some(name) = name else {
        return Ok(Vec::new());
    };
    let mut groups: Vec<u32> = entries::<4>(file)
        .filter(|[_, _, _, members]| members.split(|byte| *byte == b',').any(|member| member == name.as_bytes()))
        .filter_map(|[_, _, gid, _]| valid_id(gid))
        .collect();
    groups.sort_unstable();
    groups.dedup();
    if groups.len() >= MAX_GROUPS {
        return Err(failure(spec, "the image's /etc/group puts this user into too many groups".to_owned()));
    }
    Ok(groups)
}

/// The lines of a colon-separated file that have at least the `N` fields wanted; missing trailing fields count as empty.
fn entries<const N: usize>(file: &[u8]) -> impl Iterator<Item = [&[u8]; N]> {
    file.split(|byte| *byte == b'\n').filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let mut fields = line.split(|byte| *byte == b':');
        let mut entry = [&b""[..]; N];
        for slot in &mut entry {
            *slot = fields.next().unwrap_or_default();
        }
        Some(entry)
    })
}

fn valid_id(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|id| *id <= MAX_ID)
}

/// `Some` for a number in range, `None` for a name, an error for a number that is no id.
fn parse_id(spec: &str, text: &str) -> Result<Option<u32>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match valid_id(text.as_bytes()) {
        Some(id) => Ok(Some(id)),
        None => Err(failure(spec, format!("{text} is no id; ids go from 0 to {MAX_ID}"))),
    }
}

fn failure(spec: &str, reason: String) -> Error {
    Error::User { spec: spec.to_owned(), reason }
}

fn bytes_to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\n# note\nweb:x:1000:1000::/home/web:/bin/sh\r\nodd:x:99999999999:1::/:\n1234:x:7:7::/seven:\n";
    const GROUP: &[u8] = b"root:x:0:\nweb:x:1000:\nadm:x:4:web,root\ntape:x:26:other,web\nshort\n";

    fn ids(spec: &str) -> (u32, u32, Vec<u32>) {
        let ids = resolve_user(spec, PASSWD, GROUP).unwrap().ids;
        (ids.uid, ids.gid, ids.groups)
    }

    #[test]
    fn security_s08_groups_come_from_the_image_and_contain_the_primary() {
        assert_eq!(ids("web"), (1000, 1000, vec![1000, 4, 26]));
        assert_eq!(ids("1000"), (1000, 1000, vec![1000, 4, 26]));
        assert_eq!(ids("1000:2000"), (1000, 2000, vec![2000]));
        assert_eq!(ids("web:tape"), (1000, 26, vec![26]));
        assert_eq!(ids(""), (0, 0, vec![0, 4]));
        assert_eq!(ids("web:"), ids("web"));
        assert_eq!(ids(":4"), (0, 4, vec![4]));
    }

    #[test]
    fn numbers_are_never_names() {
        assert_eq!(ids("1234"), (1234, 0, vec![0]));
        let user = resolve_user("1234", PASSWD, GROUP).unwrap();
        assert_eq!((user.home, user.name), (PathBuf::from("/"), None));
    }

    #[test]
    fn homes_and_names_come_from_passwd() {
        let user = resolve_user("web", PASSWD, GROUP).unwrap();
        assert_eq!((user.home, user.name.as_deref()), (PathBuf::from("/home/web"), Some("web")));
    }

    #[test]
    fn what_cannot_be_found_or_counted_is_an_error() {
        for spec in ["nobody", "web:nogroup", "4294967296", "-1", "2147483648", "web:99999999999", "odd"] {
            assert!(resolve_user(spec, PASSWD, GROUP).is_err(), "{spec}");
        }
        let large = vec![b'x'; USER_FILE_LIMIT + 1];
        assert!(resolve_user("0", &large, b"").is_err());
    }

    #[test]
    fn an_image_without_files_has_numbers_only() {
        assert_eq!(resolve_user("5:6", b"", b"").unwrap().ids, UserIds { uid: 5, gid: 6, groups: vec![6] });
        assert_eq!(resolve_user("", b"", b"").unwrap().home, PathBuf::from("/root"));
    }
}
