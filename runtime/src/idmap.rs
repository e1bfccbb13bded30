//! Ids of a user namespace and what they are outside of it. Data, and the text that the kernel reads.
use std::fmt::Write;

/// A range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first inside.
    pub inside: u32,
    /// The first outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

/// Users and groups of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdRanges {
    /// Users.
    pub users: Vec<IdRange>,
    /// Groups.
    pub groups: Vec<IdRange>,
}

impl IdRanges {
    /// What a user of the namespace is outside.
    #[must_use]
    pub fn user(&self, inside: u32) -> Option<u32> {
        outside(&self.users, inside)
    }

    /// What a group of the namespace is outside.
    #[must_use]
    pub fn group(&self, inside: u32) -> Option<u32> {
        outside(&self.groups, inside)
    }
}

fn outside(ranges: &[IdRange], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| {
        let distance = inside.checked_sub(range.inside)?;
        if distance < range.count { range.outside.checked_add(distance) } else { None }
    })
}

/// As /proc/PID/uid_map and gid_map take them.
pub(crate) fn text(ranges: &[IdRange]) -> String {
    let mut text = String::new();
    for range in ranges {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
    }
    text
}

/// What the kernel says in these files. What is no range is none.
pub(crate) fn parse(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some(IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
    };
    text.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_their_ranges() {
        let ranges = [IdRange { inside: 0, outside: 100_000, count: 10 }, IdRange { inside: 50, outside: 7, count: 1 }];
        let map = IdRanges { users: ranges.to_vec(), groups: Vec::new() };
        assert_eq!(
            (map.user(0), map.user(9), map.user(10), map.user(50)),
            (Some(100_000), Some(100_009), None, Some(7))
        );
        assert_eq!(map.group(0), None);
        assert_eq!(text(&map.users), "0 100000 10\n50 7 1\n");
        assert_eq!(parse("         0     100000         10\n50 7 1\nx\n"), map.users);
    }
}
