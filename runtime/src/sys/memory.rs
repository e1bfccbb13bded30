//! Memory of a process that will do little for a long time.
use std::fs;

/// Gives back the pages of the program's own file that nothing has written to: those that are needed come back by
/// themselves, out of the page cache that all processes of the program share.
pub(crate) fn give_back_program() {
    // SAFETY: the allocator's own call, which gives pages back that hold nothing; it takes its own locks.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    let Ok(maps) = fs::read_to_string("/proc/self/smaps") else { return };
    let Some(program) = fs::read_link("/proc/self/exe").ok().and_then(|path| path.to_str().map(str::to_owned)) else {
        return;
    };
    for (range, untouched) in mappings(&maps, &program) {
        if untouched {
            // SAFETY: the mapping is private, of a file, not writable, and has no page of its own: what is dropped is
            // read again from the same file.
            unsafe {
                libc::madvise(std::ptr::with_exposed_provenance_mut(range.start), range.len(), libc::MADV_DONTNEED);
            }
        }
    }
}

/// The mappings of a file that cannot be written, and whether nothing was ever written to them.
fn mappings(maps: &str, file: &str) -> Vec<(std::ops::Range<usize>, bool)> {
    let mut found = Vec::new();
    let mut current: Option<std::ops::Range<usize>> = None;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        match (fields.next(), fields.next()) {
            (Some("Anonymous:"), Some(size)) => found.extend(current.take().map(|range| (range, size == "0"))),
            (Some(range), Some("r--p" | "r-xp")) if line.ends_with(file) => {
                let numbers = range.split_once('-').map(|(start, end)| {
                    (usize::from_str_radix(start, 16).unwrap_or(0), usize::from_str_radix(end, 16).unwrap_or(0))
                });
                current = numbers.filter(|(start, end)| 0 < *start && start < end).map(|(start, end)| start..end);
            }
            (Some(range), Some(_)) if range.contains('-') => current = None,
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_the_file_is_given_back() {
        let maps = "1000-3000 r--p 00000000 fe:00 1    /bin/d\nRss: 4 kB\nAnonymous:             0 kB\n\
            3000-4000 r--p 00000000 fe:00 1    /bin/d\nAnonymous:             8 kB\n\
            4000-5000 rw-p 00000000 fe:00 1    /bin/d\nAnonymous:             0 kB\n\
            5000-6000 r-xp 00000000 fe:00 1    /bin/other\nAnonymous:             0 kB\n";
        assert_eq!(mappings(maps, "/bin/d"), [(0x1000..0x3000, true), (0x3000..0x4000, false)]);
        give_back_program();
        assert!(!mappings(&fs::read_to_string("/proc/self/smaps").unwrap_or_default(), "").is_empty());
    }
}
