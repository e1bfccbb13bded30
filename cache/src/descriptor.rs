//! OCI descriptors, media types and platforms (OCI image-spec, descriptor.md, media-types.md).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::Error;

/// A typed, sized, digested pointer to content. Unknown keys survive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    pub media_type: MediaType,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Of an entry of an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Free-form.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Keys that this version does not know.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

macro_rules! media_types {
    ($($variant:ident = $text:literal $doc:literal,)*) => {
        /// Types of content that images are made of.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum MediaType {
            $(#[doc = $doc] $variant,)*
            /// Anything else.
            Other(String),
        }

        impl MediaType {
            /// The text on the wire.
            pub fn as_str(&self) -> &str {
                match self {
                    $(MediaType::$variant => $text,)*
                    MediaType::Other(text) => text,
                }
            }
        }

        impl From<String> for MediaType {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => MediaType::$variant,)*
                    _ => MediaType::Other(text),
                }
            }
        }
    };
}

media_types! {
    OciIndex = "application/vnd.oci.image.index.v1+json" "An OCI index.",
    OciManifest = "application/vnd.oci.image.manifest.v1+json" "An OCI manifest.",
    OciConfig = "application/vnd.oci.image.config.v1+json" "An OCI image configuration.",
    OciLayer = "application/vnd.oci.image.layer.v1.tar" "An uncompressed layer.",
    OciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip" "A layer in gzip.",
    OciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd" "A layer in zstd.",
    DockerList = "application/vnd.docker.distribution.manifest.list.v2+json" "A Docker manifest list.",
    DockerManifest = "application/vnd.docker.distribution.manifest.v2+json" "A Docker schema 2 manifest.",
    DockerConfig = "application/vnd.docker.container.image.v1+json" "A Docker image configuration.",
    DockerLayer = "application/vnd.docker.image.rootfs.diff.tar" "An uncompressed Docker layer.",
    DockerLayerGzip = "application/vnd.docker.image.rootfs.diff.tar.gzip" "A Docker layer in gzip.",
    DockerLayerZstd = "application/vnd.docker.image.rootfs.diff.tar.zstd" "A Docker layer in zstd.",
}

impl From<MediaType> for String {
    fn from(media_type: MediaType) -> String {
        media_type.as_str().to_owned()
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl MediaType {
    /// An index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self, MediaType::OciIndex | MediaType::DockerList)
    }

    /// A manifest of one image.
    pub fn is_manifest(&self) -> bool {
        matches!(self, MediaType::OciManifest | MediaType::DockerManifest)
    }

    /// A layer of any compression.
    pub fn is_layer(&self) -> bool {
        matches!(
            self,
            MediaType::OciLayer
                | MediaType::OciLayerGzip
                | MediaType::OciLayerZstd
                | MediaType::DockerLayer
                | MediaType::DockerLayerGzip
                | MediaType::DockerLayerZstd
        )
    }
}

/// Operating system, architecture and variant, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`
    pub os: String,
    /// `amd64`, `arm64` …
    pub architecture: String,
    /// `v7` …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Of this machine.
    pub fn host() -> Platform {
        let (architecture, variant) = normal(std::env::consts::ARCH, None);
        Platform { os: std::env::consts::OS.to_owned(), architecture, variant }
    }
}

/// What a platform may be that is named by its architecture alone.
const ARCHITECTURES: [&str; 14] = [
    "amd64", "arm64", "386", "arm", "ppc64le", "ppc64", "s390x", "riscv64", "mips64le", "mips64", "mipsle", "mips",
    "loong64", "wasm",
];

/// Names of the kernel and of other tools as the image-spec writes them.
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant) {
        ("x86_64" | "x86-64" | "amd64", _) => ("amd64", variant.filter(|variant| *variant != "v1")),
        ("aarch64" | "arm64", None | Some("v8" | "8")) => ("arm64", None),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("x86" | "i386" | "i686" | "386", _) => ("386", None),
        ("armhf" | "armv7" | "armv7l", None) => ("arm", Some("v7")),
        ("armel", None) => ("arm", Some("v6")),
        ("arm", None) => ("arm", Some("v7")),
        ("powerpc64le" | "ppc64el", variant) => ("ppc64le", variant),
        other => other,
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = || Error::BadPlatform(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let ok = |part: &str| {
            !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        };
        if !parts.iter().all(|part| ok(part)) {
            return Err(bad());
        }
        let lower: Vec<String> = parts.iter().map(|part| part.to_lowercase()).collect();
        let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
        let (os, architecture, variant) = match lower.as_slice() {
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => (*os, std::env::consts::ARCH, None),
            // A word alone is a guess, and a wrong one would be built for a machine that is nowhere.
            [architecture] if ARCHITECTURES.contains(&normal(architecture, None).0.as_str()) => {
                ("linux", *architecture, None)
            }
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(bad()),
        };
        let os = if os == "macos" { "darwin" } else { os };
        let (architecture, variant) = normal(architecture, variant);
        Ok(Platform { os: os.to_owned(), architecture, variant })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_normalised() {
        let cases = [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("amd64", "linux/amd64"),
            ("Linux/ARM/V6", "linux/arm/v6"),
        ];
        for (text, normal) in cases {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), normal);
        }
        for bad in ["", "linux/", "a/b/c/d", "linux/$A", "bogus"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_of_descriptors_survive() {
        let text =
            format!(r#"{{"mediaType":"x/y","digest":"{}","size":3,"artifactType":"z"}}"#, Digest::sha256_of(b""));
        let descriptor: Descriptor = serde_json::from_str(&text).unwrap();
        assert_eq!(descriptor.media_type, MediaType::Other("x/y".to_owned()));
        assert_eq!(serde_json::to_string(&descriptor).unwrap(), text);
    }
}
