//! Tar entries of any kind, well made and not, OCI layouts of layers, and a host tree that must not change.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::json;
use sha2::Digest;

/// What a header says; the rest is filled in.
#[derive(Debug, Clone)]
pub struct Header<'a> {
    /// Name, at most 100 bytes.
    pub name: &'a str,
    /// Type letter (POSIX ustar).
    pub letter: u8,
    /// Target of a link.
    pub link: &'a str,
    /// Size as written, whatever follows.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
}

impl Default for Header<'_> {
    fn default() -> Self {
        Header { name: "", letter: b'0', link: "", size: 0, mode: 0o644, device: (0, 0) }
    }
}

impl Header<'_> {
    /// The block, with its checksum.
    pub fn block(&self) -> [u8; 512] {
        self.block_with(|_| ())
    }

    /// The same after something was written into it.
    pub fn block_with(&self, change: impl FnOnce(&mut [u8; 512])) -> [u8; 512] {
        let mut block = [0_u8; 512];
        let mut put = |at: usize, bytes: &[u8]| {
            block.iter_mut().skip(at).zip(bytes).for_each(|(slot, byte)| *slot = *byte);
        };
        put(0, self.name.as_bytes());
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, b"07346545000");
        put(156, &[self.letter]);
        put(157, self.link.as_bytes());
        put(257, if self.letter == b'S' { b"ustar  \0" } else { b"ustar\x0000" });
        put(329, format!("{:07o}", self.device.0).as_bytes());
        put(337, format!("{:07o}", self.device.1).as_bytes());
        change(&mut block);
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        let sum = format!("{sum:06o}\0 ");
        block.iter_mut().skip(148).zip(sum.as_bytes()).for_each(|(slot, byte)| *slot = *byte);
        block
    }
}

/// A regular file.
pub fn file(name: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = Header { name, size: data.len() as u64, ..Header::default() }.block().to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A directory.
pub fn directory(name: &str) -> Vec<u8> {
    Header { name, letter: b'5', mode: 0o755, ..Header::default() }.block().to_vec()
}

/// A symbolic link.
pub fn link(name: &str, to: &str) -> Vec<u8> {
    Header { name, letter: b'2', link: to, mode: 0o777, ..Header::default() }.block().to_vec()
}

/// A hard link.
pub fn hard_link(name: &str, to: &str) -> Vec<u8> {
    Header { name, letter: b'1', link: to, ..Header::default() }.block().to_vec()
}

/// An extension header with these bytes, `x` of PAX or `L` and `K` of GNU.
pub fn extension(letter: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = file("extension", data);
    let block = Header { name: "extension", letter, size: data.len() as u64, ..Header::default() }.block();
    bytes.splice(..512, block);
    bytes
}

/// A PAX header of these records.
pub fn pax<'a>(records: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (1..10).map(|digits| rest + digits).find(|length| length.to_string().len() == length - rest);
        text.push_str(&format!("{} {key}={value}\n", length.expect("a length that counts itself")));
    }
    extension(b'x', text.as_bytes())
}

/// Entries, and the end of an archive.
pub fn tar(entries: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.into_iter().flatten().collect();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// Gzip, one member.
///
/// # Panics
/// Never: memory takes what is written.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).expect("memory takes it");
    out.finish().expect("memory takes it")
}

/// `sha256:` and the hash.
pub fn sha256(bytes: &[u8]) -> String {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer of a layout: its bytes as they are stored, and what the configuration says of the plain tar.
#[derive(Debug, Clone)]
pub struct LayerBytes {
    /// Stored, compressed or not.
    pub stored: Vec<u8>,
    /// Digest of the plain tar.
    pub diff_id: String,
}

impl LayerBytes {
    /// A plain tar.
    pub fn plain(bytes: Vec<u8>) -> Self {
        LayerBytes { diff_id: sha256(&bytes), stored: bytes }
    }

    /// The same, gzipped.
    pub fn gzip(bytes: &[u8]) -> Self {
        LayerBytes { diff_id: sha256(bytes), stored: gzip(bytes) }
    }
}

/// Writes an OCI layout of one image, `hostile:latest`.
///
/// # Panics
/// When the disk does not take it.
pub fn layout(directory: &Path, layers: &[LayerBytes]) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a directory");
    let put = |bytes: &[u8]| {
        let digest = sha256(bytes);
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).expect("a blob");
        digest
    };
    let descriptor = |kind: &str, bytes: &[u8]| {
        let media = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media, "digest": put(bytes), "size": bytes.len() })
    };
    let kind = |layer: &LayerBytes| {
        if layer.stored.starts_with(&[0x1f, 0x8b]) { "layer.v1.tar+gzip" } else { "layer.v1.tar" }
    };
    let machine = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let ids: Vec<&String> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = json!({ "os": "linux", "architecture": machine, "rootfs": { "type": "layers", "diff_ids": ids } });
    let descriptors: Vec<_> = layers.iter().map(|layer| descriptor(kind(layer), &layer.stored)).collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", config.to_string().as_bytes()),
        "layers": descriptors,
    });
    let mut entry = descriptor("manifest.v1+json", manifest.to_string().as_bytes());
    let names = json!({ "org.opencontainers.image.ref.name": "hostile:latest" });
    entry.as_object_mut().expect("an object").insert("annotations".to_owned(), names);
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    std::fs::write(directory.join("index.json"), index.to_string()).expect("the index");
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout file");
}

/// A tree of the host that must stay equal: bytes, modes, owners, times.
#[derive(Debug)]
pub struct Canary {
    root: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

impl Canary {
    /// Makes it.
    ///
    /// # Panics
    /// When the disk does not take it.
    pub fn new(root: &Path) -> Self {
        std::fs::create_dir_all(root.join("etc")).expect("a directory");
        std::fs::write(root.join("etc/passwd"), "root:x:0:0\n").expect("a file");
        std::fs::write(root.join("secret"), "stays").expect("a file");
        std::fs::set_permissions(root.join("secret"), std::fs::Permissions::from_mode(0o600)).expect("a mode");
        symlink("secret", root.join("link")).expect("a link");
        for name in ["etc/passwd", "secret", "etc", "."] {
            let file = std::fs::File::open(root.join(name)).expect("a file");
            file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000)).expect("a time");
        }
        Canary { root: root.to_owned(), before: listing(root) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Compares.
    ///
    /// # Panics
    /// When anything is not as it was.
    #[track_caller]
    pub fn unchanged(&self) {
        assert_eq!(listing(&self.root), self.before);
    }
}

fn listing(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = std::fs::symlink_metadata(&path).expect("it is there");
        let content = if metadata.is_file() { std::fs::read(&path).expect("a file") } else { Vec::new() };
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        }
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let times =
            (metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec(), metadata.nlink());
        found.insert(path, format!("{mode:o} {uid} {gid} {times:?} {content:?}"));
    }
    found
}
