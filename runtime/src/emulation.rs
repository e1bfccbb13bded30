//! Programs of other architectures: what the kernel hands to an emulator (binfmt_misc), read from its own list.
use std::fs;
use std::path::Path;

/// Where the kernel lists the handlers.
const BINFMT: &str = "/proc/sys/fs/binfmt_misc";

/// What this machine can do with programs of another architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// A handler is registered, with its interpreter held open: it works in every root.
    Ready,
    /// A handler is registered, but its interpreter is looked up in each root, where it is not.
    NotFixed,
    /// No handler is registered.
    Missing,
}

impl Emulation {
    /// For an architecture in Go's words: `arm64`, `s390x`, …
    #[must_use]
    pub fn of(architecture: &str) -> Emulation {
        Emulation::of_handlers(Path::new(BINFMT), architecture)
    }

    fn of_handlers(directory: &Path, architecture: &str) -> Emulation {
        let name = format!("qemu-{}", qemu_name(architecture));
        match fs::read_to_string(directory.join(name)) {
            Ok(text) if !text.starts_with("enabled") => Emulation::Missing,
            Ok(text) => {
                let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
                if flags.contains('F') { Emulation::Ready } else { Emulation::NotFixed }
            }
            Err(_) => Emulation::Missing,
        }
    }
}

fn qemu_name(architecture: &str) -> &str {
    match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "i386",
        "mips64le" => "mips64el",
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_read_as_the_kernel_writes_them() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("qemu-aarch64", "enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n");
        write("qemu-arm", "enabled\ninterpreter /usr/bin/qemu-arm\nflags: \n");
        write("qemu-s390x", "disabled\ninterpreter /usr/bin/qemu-s390x\nflags: F\n");
        let of = |architecture| Emulation::of_handlers(directory.path(), architecture);
        assert_eq!(
            [of("arm64"), of("arm"), of("s390x"), of("riscv64")],
            [Emulation::Ready, Emulation::NotFixed, Emulation::Missing, Emulation::Missing]
        );
    }
}
