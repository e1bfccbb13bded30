//! Which ids of the machine a user namespace shows as which: pure, from the texts of /etc/passwd, subuid and the kernel's maps.
use std::fmt::Write as _;

/// The kernel takes no more lines in a map (user_namespaces(7)).
const MOST_LINES: usize = 340;

/// Ids that are shown in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first id inside.
    pub(crate) inside: u32,
    /// The first id outside.
    pub(crate) outside: u32,
    /// How many.
    pub(crate) count: u32,
}

/// The extents of one kind of id, in the order of their inner numbers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct IdMap(pub(crate) Vec<Extent>);

impl IdMap {
    /// The caller as user 0, and nobody else.
    pub(crate) fn single(own: u32) -> IdMap {
        IdMap(vec![Extent { inside: 0, outside: own, count: 1 }])
    }

    /// The caller as user 0, and what /etc/subuid grants from 1 up. None when it grants nothing.
    pub(crate) fn with_ranges(own: u32, name: Option<&str>, file: &str) -> Option<IdMap> {
        let mut map = IdMap::single(own);
        let mut inside = 1_u32;
        for (first, count) in granted(Some(own), name, file).take(MOST_LINES - 1) {
            let count = count.min(u32::MAX - inside);
            map.0.push(Extent { inside, outside: first, count });
            inside += count;
        }
        (map.0.len() > 1).then_some(map)
    }

    /// The same with another own id: the groups of a user stand under the user's name too.
    pub(crate) fn with_own(mut self, own: u32) -> IdMap {
        if let Some(first) = self.0.first_mut() {
            first.outside = own;
        }
        self
    }

    /// Every id that is known here as itself: what a superuser without the right to mount can give to a namespace.
    pub(crate) fn identity(own_map: &str) -> IdMap {
        let extents = own_map.lines().filter_map(|line| {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            match (numbers.next()?, numbers.next()?, numbers.next()?) {
                (Ok(inside), Ok(_), Ok(count)) => Some(Extent { inside, outside: inside, count }),
                _ => None,
            }
        });
        IdMap(extents.take(MOST_LINES).collect())
    }

    /// How many ids it shows.
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().map(|extent| u64::from(extent.count)).sum()
    }

    /// As /proc/PID/uid_map takes it.
    pub(crate) fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, Extent { inside, outside, count }| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{inside} {outside} {count}");
            text
        })
    }

    /// As newuidmap(1) takes it behind the number of the process.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.0.iter().flat_map(|one| [one.inside, one.outside, one.count]).map(|number| number.to_string()).collect()
    }
}

/// The lines `NAME:FIRST:COUNT` of subuid(5) for a user, given by name or number.
pub(super) fn granted<'a>(
    own: Option<u32>,
    name: Option<&'a str>,
    file: &'a str,
) -> impl Iterator<Item = (u32, u32)> + 'a {
    let number = own.map(|own| own.to_string());
    file.lines().filter_map(move |line| {
        let mut parts = line.trim().split(':');
        let who = parts.next()?;
        if Some(who) != name && Some(who) != number.as_deref() {
            return None;
        }
        let (first, count): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        (count > 0 && first.checked_add(count - 1).is_some()).then_some((first, count))
    })
}

/// The name of a user in passwd(5).
pub(crate) fn name_of(uid: u32, passwd: &str) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, number) = (parts.next()?, parts.next()?, parts.next()?);
        (number.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_the_user_by_name_or_number() {
        let file = "# remark\nother:1:5\nme:100000:65536\n1000:300000:10\nme:broken:1\nme:4294967295:2\n";
        let map = IdMap::with_ranges(1000, Some("me"), file).unwrap();
        assert_eq!(map.text(), "0 1000 1\n1 100000 65536\n65537 300000 10\n");
        assert_eq!(map.arguments().join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
        assert_eq!(map.count(), 65_547);
        assert_eq!(IdMap::with_ranges(7, None, file), None);
    }

    #[test]
    fn a_superuser_without_rights_gives_what_it_has() {
        assert_eq!(IdMap::identity("         0     100000      65536\n").text(), "0 0 65536\n");
        assert_eq!(IdMap::identity("0 0 4294967295\n").text(), "0 0 4294967295\n");
    }

    #[test]
    fn names_are_those_of_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n";
        assert_eq!((name_of(1000, passwd), name_of(3, passwd)), (Some("me"), None));
    }
}
