//! Extension headers: PAX records, for one entry and for all that follow, and GNU long names.
//!
//! A global header gives owners and times to all that follow, as POSIX says. Names, links, sizes and sparse maps in one
//! would have readers disagree on what an archive holds: they are refused.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::limits::Limits;
use crate::error::{Error, Result, escaped};

/// What the headers before an entry say of it.
#[derive(Debug, Default, Clone)]
pub(crate) struct Extensions {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mtime_ns: Option<i64>,
    pub(crate) xattrs: Vec<(OsString, Vec<u8>)>,
    pub(crate) sparse: Option<PaxSparse>,
}

/// `GNU.sparse.*` in version 1.0: the map comes before the data.
#[derive(Debug, Default, Clone)]
pub(crate) struct PaxSparse {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
}

/// Which entries a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    Next,
    Following,
}

impl Extensions {
    /// Reads all records of a PAX header.
    pub(crate) fn read(&mut self, bytes: &[u8], scope: Scope, limits: &Limits) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or_else(|| Error::archive("PAX header", "a record is malformed"))?;
            self.record(key, value, scope, limits)?;
            rest = after;
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8], scope: Scope, limits: &Limits) -> Result<()> {
        let bad = || Error::archive("PAX header", format!("the value of {} is malformed", escaped(key)));
        let text = || std::str::from_utf8(value).map_err(|_| bad());
        let number = || text()?.parse::<u64>().map_err(|_| bad());
        if scope == Scope::Following && (matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.")) {
            return Err(Error::archive("PAX global header", format!("{} for all entries is refused", escaped(key))));
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number()?),
            b"uid" => self.uid = Some(u32::try_from(number()?).map_err(|_| bad())?),
            b"gid" => self.gid = Some(u32::try_from(number()?).map_err(|_| bad())?),
            b"mtime" => self.mtime_ns = Some(time(text()?).ok_or_else(bad)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse(name, value, number);
                }
                let Some(name) = key.strip_prefix(b"SCHILY.xattr.") else { return Ok(()) };
                self.xattr(name, value, limits)?;
            }
        }
        Ok(())
    }

    fn sparse(&mut self, name: &[u8], value: &[u8], number: impl Fn() -> Result<u64>) -> Result<()> {
        let sparse = self.sparse.get_or_insert_default();
        match name {
            b"major" => sparse.major = Some(number()?),
            b"minor" => sparse.minor = Some(number()?),
            b"name" => sparse.name = Some(value.to_vec()),
            b"realsize" => sparse.real_size = Some(number()?),
            _ => {
                return Err(Error::archive(
                    "PAX header",
                    "sparse files in the forms 0.0 and 0.1 are not supported: pack with --sparse-version=1.0",
                ));
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<()> {
        if value.len() > limits.xattr_bytes || name.len() > 255 {
            return Err(Error::Limit(format!(
                "an extended attribute of {} bytes, more than {}",
                value.len(),
                limits.xattr_bytes
            )));
        }
        if crate::tree::kept_xattr(name) {
            if self.xattrs.len() >= limits.xattrs {
                return Err(Error::Limit(format!("more than {} extended attributes on one entry", limits.xattrs)));
            }
            let name = OsString::from_vec(name.to_vec());
            // The last record of a name rules.
            self.xattrs.retain(|(there, _)| *there != name);
            self.xattrs.push((name, value.to_vec()));
        }
        Ok(())
    }

    /// Takes from a global header what this entry's own headers do not say.
    pub(crate) fn over(mut self, global: &Extensions) -> Extensions {
        self.uid = self.uid.or(global.uid);
        self.gid = self.gid.or(global.gid);
        self.mtime_ns = self.mtime_ns.or(global.mtime_ns);
        for (name, value) in &global.xattrs {
            if !self.xattrs.iter().any(|(there, _)| there == name) {
                self.xattrs.push((name.clone(), value.clone()));
            }
        }
        self
    }
}

/// GNU long names end with a NUL.
pub(crate) fn long_name(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// `LENGTH KEY=VALUE\n`: the length counts the whole record (POSIX pax).
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((record.get(..equals)?, record.get(equals + 1..)?, bytes.get(length..)?))
}

/// Decimal seconds, a fraction allowed.
fn time(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9.9}").parse().ok()?;
    let nanos = if text.starts_with('-') { -nanos } else { nanos };
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn pax_records_and_times() {
        assert_eq!(record(b"11 path=ab\nrest"), Some((&b"path"[..], &b"ab"[..], &b"rest"[..])));
        for bad in [&b"99 path=ab\n"[..], b"x path=ab\n", b"11 path=ab", b"3 \n", b""] {
            assert_eq!(record(bad), None);
        }
        assert_eq!(time("1.5"), Some(1_500_000_000));
        assert_eq!(time("-1.25"), Some(-1_250_000_000));
        assert_eq!(time("12"), Some(12_000_000_000));
        assert_eq!(time("x"), None);
    }

    #[test]
    fn a_global_header_gives_owners_and_times_and_no_names() {
        let limits = Limits::default();
        let mut global = Extensions::default();
        global.read(b"9 uid=71\n15 mtime=100.5\n14 comment=hi\n", Scope::Following, &limits).unwrap();
        let mut own = Extensions::default();
        own.read(b"8 gid=5\n8 uid=6\n", Scope::Next, &limits).unwrap();
        let both = own.over(&global);
        assert_eq!((both.uid, both.gid, both.mtime_ns), (Some(6), Some(5), Some(100_500_000_000)));
        assert!(global.read(b"10 path=x\n", Scope::Following, &limits).is_err());
        assert!(global.read(b"10 size=1\n", Scope::Following, &limits).is_err());
    }
}
