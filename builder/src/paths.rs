//! Path arithmetic inside an image: text only, `..` clamped at the root, no disk.

use std::path::{Component, Path, PathBuf};

/// `path` below `cwd`, cleaned: absolute, no `.` or `..`.
pub(crate) fn absolute(cwd: &str, path: &str) -> PathBuf {
    clean(&Path::new("/").join(cwd).join(path))
}

/// Absolute and without `.` or `..`; `..` at the root stays there.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// Whether a destination names a directory: it ends with a slash, or is `.` or ends with `/.` or `/..`.
pub(crate) fn names_directory(text: &str) -> bool {
    text.is_empty()
        || text.ends_with('/')
        || text == "."
        || text == ".."
        || text.ends_with("/.")
        || text.ends_with("/..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builder_c07_parents_are_clamped_at_the_root() {
        assert_eq!(clean(Path::new("../../x")), Path::new("/x"));
        assert_eq!(absolute("/a", "b/../../../c"), Path::new("/c"));
        assert_eq!(absolute("/a", "/b/./c/"), Path::new("/b/c"));
    }

    #[test]
    fn builder_c29_relative_destinations_stand_below_the_working_directory() {
        assert_eq!(absolute("/w", "."), Path::new("/w"));
        assert_eq!(absolute("/w", ""), Path::new("/w"));
        assert!(names_directory("./") && names_directory(".") && names_directory("/d/"));
        assert!(!names_directory("d"));
    }
}
