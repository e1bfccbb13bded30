//! What can be asked of a file system in memory: the options of `--tmpfs` and of `--mount type=tmpfs`.

use engine::MountKind;

use super::lent::size;

/// Options of docker for what is so anyway.
const USUAL: [&str; 4] = ["defaults", "async", "nomand", ""];
/// What is kept of times.
const TIMES: [&str; 8] =
    ["noatime", "atime", "relatime", "norelatime", "strictatime", "nostrictatime", "nodiratime", "diratime"];
const KNOWN: &str = "size, mode, uid, gid, nr_inodes, nr_blocks, mpol, ro, rw, exec, noexec, suid, nosuid, dev, nodev, noatime and its like are";

/// What was asked for so far.
#[derive(Debug, Default)]
pub(super) struct Tmpfs {
    pub(super) read_only: bool,
    size: Option<u64>,
    mode: Option<u32>,
    executable: bool,
    options: Vec<(String, String)>,
    attributes: Vec<String>,
}

impl Tmpfs {
    /// Takes one option; of two that contradict each other the last one rules.
    pub(super) fn option(&mut self, option: &str) -> Result<(), String> {
        let Some((name, value)) = option.split_once('=') else { return self.word(option) };
        let number =
            || value.parse::<u32>().map(|_| ()).map_err(|_| format!("`{value}` is no {name}: it takes a number"));
        match name {
            "size" if value.ends_with('%') => {
                let percent =
                    value.trim_end_matches('%').parse::<u8>().ok().filter(|percent| (1..=100).contains(percent));
                percent.ok_or_else(|| format!("`{value}` is no part of the memory: 1% to 100% are"))?;
                self.size = None;
                self.set(name, value.to_owned());
            }
            "size" => {
                self.size = Some(size(value)?);
                self.options.retain(|(known, _)| known != "size");
            }
            "mode" => self.mode = Some(octal(value)?),
            "uid" | "gid" => {
                number()?;
                self.set(name, value.to_owned());
            }
            "nr_inodes" | "nr_blocks" => {
                let count =
                    size(value).map_err(|_| format!("`{value}` is no {name}: it takes a number, as 1000 or 4k"))?;
                self.set(name, count.to_string());
            }
            "mpol"
                if !value.is_empty()
                    && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-=".contains(&byte)) =>
            {
                self.set(name, value.to_owned());
            }
            _ => return Err(not_known(option)),
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), String> {
        match word {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "exec" => self.executable = true,
            "noexec" => self.executable = false,
            "suid" | "dev" => self.attributes.push(word.to_owned()),
            // How it is mounted anyway.
            "nosuid" | "nodev" => self.attributes.retain(|known| Some(known.as_str()) != word.strip_prefix("no")),
            _ if TIMES.contains(&word) => self.attributes.push(word.to_owned()),
            _ if USUAL.contains(&word) => {}
            _ => return Err(not_known(word)),
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) {
        self.options.retain(|(known, _)| known != name);
        self.options.push((name.to_owned(), value));
    }

    /// Whether a field of `--mount` is one of these.
    pub(super) fn knows(name: &str) -> bool {
        let words = ["exec", "noexec", "suid", "nosuid", "dev", "nodev", "rw"];
        ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"].contains(&name)
            || words.contains(&name)
            || TIMES.contains(&name)
    }

    pub(super) fn kind(self) -> MountKind {
        let Tmpfs { size, mode, executable, options, attributes, .. } = self;
        MountKind::Tmpfs { size, mode, executable, options, attributes }
    }
}

fn not_known(option: &str) -> String {
    format!("the option `{option}` is not supported for a tmpfs: {KNOWN}")
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or(format!("`{text}` is no mode, as 1777 is"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(options: &str) -> Result<(bool, MountKind), String> {
        let mut tmpfs = Tmpfs::default();
        options.split(',').try_for_each(|option| tmpfs.option(option))?;
        Ok((tmpfs.read_only, tmpfs.kind()))
    }

    #[test]
    fn options_are_dockers_and_the_last_one_rules() {
        let usual = MountKind::Tmpfs {
            size: Some(64 << 20),
            mode: Some(0o1770),
            executable: false,
            options: Vec::new(),
            attributes: Vec::new(),
        };
        assert_eq!(read("rw,exec,noexec,nosuid,dev,nodev,size=50%,size=64m,mode=1770"), Ok((false, usual)));
        let (read_only, kind) = read("ro,uid=1000,gid=5,uid=7,nr_inodes=1k,size=1m,size=25%,noatime,exec").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let options = vec![pair("gid", "5"), pair("uid", "7"), pair("nr_inodes", "1024"), pair("size", "25%")];
        let attributes = vec!["noatime".to_owned()];
        assert_eq!(kind, MountKind::Tmpfs { size: None, mode: None, executable: true, options, attributes });
        assert!(read_only);
    }

    #[test]
    fn what_is_none_of_them_is_named() {
        for bad in
            ["uid=root", "gid=-1", "size=0%", "size=101%", "mode=9", "nr_inodes=x", "mpol=", "huge=always", "sync", "X"]
        {
            assert!(read(bad).is_err_and(|sentence| sentence.contains('`')), "{bad}");
        }
    }
}
