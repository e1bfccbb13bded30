//! What a program of this machine needs to run: its loader and its shared libraries, read from its ELF headers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{DT_NEEDED, DT_RPATH, DT_RUNPATH, FileHeader32, FileHeader64, PT_INTERP};
use object::read::elf::{FileHeader, ProgramHeader};

use crate::error::{Error, Result};

/// Largest program that is read.
const PROGRAM_LIMIT: u64 = 512 << 20;
/// Most files that ld.so.conf may include.
const INCLUDE_LIMIT: usize = 256;

/// The dynamic part of a program or library.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// PT_INTERP: the loader.
    pub(crate) interpreter: Option<PathBuf>,
    /// DT_NEEDED: names of libraries.
    pub(crate) libraries: Vec<String>,
    /// DT_RUNPATH or DT_RPATH: where it wants them looked for.
    pub(crate) search: Vec<String>,
}

/// Reads a program's needs; a static one has none.
pub(crate) fn read(path: &Path) -> Result<Needs> {
    let size = std::fs::metadata(path).map_err(|error| Error::file("read", path, error))?.len();
    if size > PROGRAM_LIMIT {
        return Err(Error::Bootstrap(format!("{} is larger than {} MiB", path.display(), PROGRAM_LIMIT >> 20)));
    }
    let data = std::fs::read(path).map_err(|error| Error::file("read", path, error))?;
    needs(&data)
        .map_err(|reason| Error::Bootstrap(format!("{} is no program that can be read: {reason}", path.display())))
}

fn needs(data: &[u8]) -> std::result::Result<Needs, String> {
    match object::FileKind::parse(data).map_err(|error| error.to_string())? {
        object::FileKind::Elf64 => of_class::<FileHeader64<Endianness>>(data),
        object::FileKind::Elf32 => of_class::<FileHeader32<Endianness>>(data),
        other => Err(format!("it is of kind {other:?}")),
    }
}

fn of_class<H: FileHeader<Endian = Endianness>>(data: &[u8]) -> std::result::Result<Needs, String> {
    let text = |error: object::Error| error.to_string();
    let header = H::parse(data).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let segments = header.program_headers(endian, data).map_err(text)?;
    let mut needs = Needs::default();
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP
            && let Some(bytes) = segment.interpreter(endian, data).map_err(text)?
        {
            needs.interpreter = Some(PathBuf::from(String::from_utf8_lossy(bytes).into_owned()));
        }
    }
    let sections = header.sections(endian, data).map_err(text)?;
    let dynamic = sections.dynamic_table(endian, data).map_err(text)?;
    for entry in dynamic.iter() {
        let value = || dynamic.string(entry).ok().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        if entry.tag == DT_NEEDED {
            needs.libraries.extend(value());
        } else if entry.tag == DT_RUNPATH || entry.tag == DT_RPATH {
            needs.search.extend(value());
        }
    }
    Ok(needs)
}

/// Where the loader of this machine looks for libraries.
#[derive(Debug)]
pub(crate) struct Libraries {
    directories: Vec<PathBuf>,
    found: BTreeMap<String, PathBuf>,
}

impl Libraries {
    /// The directories of ld.so.conf, then the defaults.
    pub(crate) fn of_this_machine() -> Libraries {
        let mut directories = Vec::new();
        let mut left = INCLUDE_LIMIT;
        read_conf(Path::new("/etc/ld.so.conf"), &mut directories, &mut left);
        for directory in ["/lib64", "/usr/lib64", "/lib", "/usr/lib"] {
            directories.push(PathBuf::from(directory));
        }
        Libraries { directories, found: BTreeMap::new() }
    }

    /// The file of a library, as the loader would choose it for `user`.
    pub(crate) fn find(&mut self, name: &str, needs: &Needs, user: &Path) -> Option<PathBuf> {
        if name.contains('/') {
            return Some(PathBuf::from(name));
        }
        let origin = user.parent().unwrap_or(Path::new("/")).to_string_lossy().into_owned();
        let own = needs
            .search
            .iter()
            .flat_map(|list| list.split(':'))
            .map(|directory| PathBuf::from(directory.replace("$ORIGIN", &origin).replace("${ORIGIN}", &origin)));
        if let Some(path) = own.map(|directory| directory.join(name)).find(|path| path.is_file()) {
            return Some(path);
        }
        if let Some(path) = self.found.get(name) {
            return Some(path.clone());
        }
        let path = self.directories.iter().map(|directory| directory.join(name)).find(|path| path.is_file())?;
        self.found.insert(name.to_owned(), path.clone());
        Some(path)
    }
}

/// One directory a line; `include` with a `*` in the last part.
fn read_conf(path: &Path, directories: &mut Vec<PathBuf>, left: &mut usize) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    let Ok(text) = std::fs::read_to_string(path) else { return };
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include ") {
            Some(pattern) => {
                let pattern = path.parent().unwrap_or(Path::new("/")).join(pattern.trim());
                for file in expand(&pattern) {
                    read_conf(&file, directories, left);
                }
            }
            None if line.starts_with('/') => directories.push(PathBuf::from(line)),
            None => {}
        }
    }
}

fn expand(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let directory = pattern.parent().unwrap_or(Path::new("/"));
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            grammar::glob_match(&name, &path.file_name().unwrap_or_default().to_string_lossy()).unwrap_or(false)
        })
        .collect();
    files.sort();
    files
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_this_machine_names_its_loader_and_libraries() {
        let sh = std::fs::canonicalize("/bin/sh").unwrap();
        let needs = read(&sh).unwrap();
        if let Some(interpreter) = &needs.interpreter {
            assert!(interpreter.is_file());
            let mut libraries = Libraries::of_this_machine();
            for name in &needs.libraries {
                assert!(libraries.find(name, &needs, &sh).unwrap().is_file(), "{name}");
            }
        }
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert!(read(Path::new("/etc/passwd")).is_err());
        assert!(needs(b"\x7fELF").is_err());
        assert!(needs(b"").is_err());
    }
}
