//! The packages of an image as an SPDX 2.3 document, read from the databases that dpkg and apk keep in it.
//!
//! What no package manager knows is not in it: files that were copied, programs that were compiled, libraries of languages.

use std::collections::BTreeMap;
use std::path::Path;

use cache::{Image, TreeView};
use serde_json::{Value, json};

use crate::error::Result;

/// Most of a database that is read; the largest real ones have a few MiB.
const DATABASE_LIMIT: u64 = 64 << 20;
const RELEASE_LIMIT: u64 = 64 << 10;

/// A package as its database has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    architecture: String,
    /// The package that it was built from.
    source: String,
    license: String,
    /// `deb` or `apk`.
    kind: &'static str,
}

/// The document of an image's tree.
pub(super) fn document(image: &Image, tree: &dyn TreeView) -> Result<Value> {
    let release = release(tree)?;
    let packages = packages(tree)?;
    let name = image.id.to_string();
    let mut listed = vec![json!({
        "SPDXID": "SPDXRef-Image",
        "name": name,
        "versionInfo": name,
        "downloadLocation": NO_ASSERTION,
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
    })];
    let mut relations = vec![relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Image")];
    for (number, package) in packages.iter().enumerate() {
        let id = format!("SPDXRef-Package-{number}");
        relations.push(relation("SPDXRef-Image", "CONTAINS", &id));
        listed.push(package.spdx(&id, &release));
    }
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        // The same image has the same document.
        "documentNamespace": format!("https://spdx.org/spdxdocs/dunnage-{}", image.id.hex()),
        "creationInfo": {
            "created": image.config.created.as_deref().unwrap_or("1970-01-01T00:00:00Z"),
            "creators": [format!("Tool: dunnage-{}", env!("CARGO_PKG_VERSION"))],
            "comment": "Packages that dpkg and apk have installed. Files that no package manager knows are not listed.",
        },
        "packages": listed,
        "relationships": relations,
    }))
}

const NO_ASSERTION: &str = "NOASSERTION";

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to})
}

impl Package {
    fn spdx(&self, id: &str, release: &BTreeMap<String, String>) -> Value {
        let license = if self.license.is_empty() { NO_ASSERTION } else { &self.license };
        json!({
            "SPDXID": id,
            "name": self.name,
            "versionInfo": self.version,
            "downloadLocation": NO_ASSERTION,
            "filesAnalyzed": false,
            "licenseConcluded": NO_ASSERTION,
            // Words of the database; SPDX wants an expression, which they need not be.
            "licenseDeclared": NO_ASSERTION,
            "licenseComments": license,
            "copyrightText": NO_ASSERTION,
            "sourceInfo": format!("built from {}", self.source),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": self.package_url(release),
            }],
        })
    }

    fn package_url(&self, release: &BTreeMap<String, String>) -> String {
        let usual = if self.kind == "deb" { "debian" } else { "alpine" };
        let of = |key: &str| release.get(key).map(String::as_str).unwrap_or_default();
        let id = if of("ID").is_empty() { usual } else { of("ID") };
        let mut url = format!(
            "pkg:{}/{}/{}@{}?arch={}",
            self.kind,
            encoded(id),
            encoded(&self.name),
            encoded(&self.version),
            encoded(&self.architecture)
        );
        if !of("VERSION_ID").is_empty() {
            url.push_str(&format!("&distro={}-{}", encoded(id), encoded(of("VERSION_ID"))));
        }
        url
    }
}

/// All but what a package URL may have as it is, in percent signs.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte);
    let mut out = String::new();
    for byte in text.bytes() {
        if plain(byte) { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

fn packages(tree: &dyn TreeView) -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for text in dpkg_texts(tree)? {
        packages.extend(stanzas(&text, ": ").iter().filter_map(dpkg));
    }
    for path in ["lib/apk/db/installed", "usr/lib/apk/db/installed"] {
        let text = text(tree, Path::new(path), DATABASE_LIMIT)?.unwrap_or_default();
        packages.extend(stanzas(&text, ":").iter().filter_map(apk));
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

/// The database, or what images without dpkg itself have: a file for each package.
fn dpkg_texts(tree: &dyn TreeView) -> Result<Vec<String>> {
    let mut texts: Vec<String> = text(tree, Path::new("var/lib/dpkg/status"), DATABASE_LIMIT)?.into_iter().collect();
    let directory = Path::new("var/lib/dpkg/status.d");
    if tree.metadata(directory, cache::Follow::Yes)?.is_some_and(|there| there.kind == cache::Kind::Directory) {
        for (name, metadata) in tree.read_dir(directory)? {
            let is_text = metadata.kind == cache::Kind::File && !name.to_string_lossy().ends_with(".md5sums");
            if is_text {
                texts.extend(text(tree, &directory.join(name), RELEASE_LIMIT)?);
            }
        }
    }
    Ok(texts)
}

fn text(tree: &dyn TreeView, path: &Path, limit: u64) -> Result<Option<String>> {
    // Something else under that name is no database.
    if tree.metadata(path, cache::Follow::Yes)?.is_none_or(|there| there.kind != cache::Kind::File) {
        return Ok(None);
    }
    Ok(tree.read_file(path, limit)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Paragraphs of fields; lines that go on are left out.
fn stanzas(text: &str, separator: &str) -> Vec<BTreeMap<String, String>> {
    let mut all = Vec::new();
    let mut stanza = BTreeMap::new();
    for line in text.lines().chain([""]) {
        if line.is_empty() {
            if !stanza.is_empty() {
                all.push(std::mem::take(&mut stanza));
            }
        } else if !line.starts_with([' ', '\t'])
            && let Some((key, value)) = line.split_once(separator)
        {
            stanza.entry(key.to_owned()).or_insert_with(|| value.trim().to_owned());
        }
    }
    all
}

fn dpkg(stanza: &BTreeMap<String, String>) -> Option<Package> {
    // One that was removed leaves its configuration and a stanza.
    if stanza.get("Status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    let (name, version) = (stanza.get("Package")?.clone(), stanza.get("Version")?.clone());
    let source = stanza.get("Source").unwrap_or(&name).clone();
    let architecture = stanza.get("Architecture").cloned().unwrap_or_default();
    Some(Package { name, version, architecture, source, license: String::new(), kind: "deb" })
}

fn apk(stanza: &BTreeMap<String, String>) -> Option<Package> {
    let of = |key: &str| stanza.get(key).cloned();
    let (name, version) = (of("P")?, of("V")?);
    let source = of("o").unwrap_or_else(|| name.clone());
    let (architecture, license) = (of("A").unwrap_or_default(), of("L").unwrap_or_default());
    Some(Package { name, version, architecture, source, license, kind: "apk" })
}

/// `/etc/os-release`.
fn release(tree: &dyn TreeView) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for path in ["usr/lib/os-release", "etc/os-release"] {
        for line in text(tree, Path::new(path), RELEASE_LIMIT)?.unwrap_or_default().lines() {
            if let Some((key, value)) = line.split_once('=') {
                found.insert(key.to_owned(), value.trim_matches(['"', '\'']).to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_both_databases_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "var/lib/dpkg/status",
            "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nSource: glibc (2.36-9)\nVersion: 2.36-9+deb12u4\n\
             Description: a library\n Package: no\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n",
        );
        write("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n");
        write("var/lib/dpkg/status.d/base.md5sums", "Package: not-me\nVersion: 1\n");
        write("lib/apk/db/installed", "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:x\n");
        write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n");
        let tree = cache::TreeRoot::open(directory.path()).unwrap();
        let image = Image::from_config(cache::ImageConfig::default()).unwrap();
        let document = document(&image, &tree).unwrap();
        let of = |key: &str| -> Vec<String> {
            let packages = document["packages"].as_array().unwrap().iter().skip(1);
            packages.map(|package| package[key].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(of("name"), ["base-files", "libc6", "musl"]);
        assert_eq!(of("licenseComments")[2], "MIT");
        let url = document["packages"][2]["externalRefs"][0]["referenceLocator"].as_str().unwrap();
        assert_eq!(url, "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 4);
    }

    #[test]
    fn an_image_without_databases_has_an_empty_list() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("var/lib/dpkg/status")).unwrap();
        let tree = cache::TreeRoot::open(directory.path()).unwrap();
        assert_eq!(packages(&tree).unwrap(), []);
    }
}
