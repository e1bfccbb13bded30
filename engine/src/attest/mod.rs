//! What is said of an image besides its files: `--attest`, `--sbom`, `--provenance`, and `--annotation`.
//!
//! All of it stands beside the image's manifest or in its annotations; nothing of it is in the configuration or a layer, so
//! the image's id is the same with and without.

mod provenance;
mod sbom;

use std::collections::BTreeMap;
use std::str::FromStr;

use cache::{Image, Platform};
use registry::{Annotations, Attestation};

pub(crate) use self::provenance::Facts;
use crate::error::{Error, Result};
use crate::outputs::Fields;

/// What is to be attested; nothing unless it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attest {
    /// The packages of the image, as SPDX.
    pub sbom: bool,
    /// How it was built, as SLSA.
    pub provenance: Option<Provenance>,
}

/// How much of a build is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Which facts.
    pub mode: ProvenanceMode,
    /// `builder-id`.
    pub builder: Option<String>,
}

/// Which facts of a build are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProvenanceMode {
    /// What it stands on, and when it was made.
    #[default]
    Min,
    /// And arguments, labels, the Dockerfile and all steps.
    Max,
}

/// One `--attest`, `--sbom` or `--provenance`: later ones rule over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttestFlag {
    /// On or off.
    Sbom(bool),
    /// On, so, or off.
    Provenance(Option<Provenance>),
}

impl AttestFlag {
    /// The value of `--sbom`.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn sbom(text: &str) -> Result<AttestFlag> {
        AttestFlag::read("--sbom", text, "sbom")
    }

    /// The value of `--provenance`.
    ///
    /// # Errors
    /// With what is wrong.
    pub fn provenance(text: &str) -> Result<AttestFlag> {
        AttestFlag::read("--provenance", text, "provenance")
    }

    fn read(flag: &'static str, text: &str, kind: &str) -> Result<AttestFlag> {
        // `true` and `false` alone are the short spelling.
        let on = match text {
            "true" | "1" | "" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        };
        match (on, kind) {
            (Some(on), "sbom") => Ok(AttestFlag::Sbom(on)),
            (Some(on), _) => Ok(AttestFlag::Provenance(on.then(Provenance::default))),
            (None, kind) => AttestFlag::fields(Fields::parse(flag, text)?, Some(kind)),
        }
    }

    fn fields(mut fields: Fields<'_>, kind: Option<&str>) -> Result<AttestFlag> {
        let named = fields.take("type");
        let kind = kind.map(str::to_owned).or(named);
        let off = fields.flag("disabled", false)?;
        let flag = match kind.as_deref() {
            Some("sbom") => {
                if fields.take("generator").is_some() {
                    return Err(fields.wrong("dunnage reads the package databases itself: there is no generator"));
                }
                AttestFlag::Sbom(!off)
            }
            Some("provenance") => {
                let mode = match fields.take("mode").as_deref() {
                    None | Some("min") => ProvenanceMode::Min,
                    Some("max") => ProvenanceMode::Max,
                    Some(other) => return Err(fields.wrong(format!("mode={other} is not known: min and max are"))),
                };
                if fields.take("version").is_some_and(|version| version != "v1") {
                    return Err(fields.wrong("provenance is of SLSA version=v1"));
                }
                let builder = fields.take("builder-id");
                AttestFlag::Provenance((!off).then_some(Provenance { mode, builder }))
            }
            Some(other) => {
                return Err(fields.wrong(format!("`{other}` is not known: type=sbom and type=provenance are")));
            }
            None => return Err(fields.wrong("it needs a type, as in type=sbom")),
        };
        fields.end()?;
        Ok(flag)
    }
}

impl FromStr for AttestFlag {
    type Err = Error;

    fn from_str(text: &str) -> Result<AttestFlag> {
        AttestFlag::fields(Fields::parse("--attest", text)?, None)
    }
}

impl Attest {
    /// What several flags come to.
    pub fn of(flags: impl IntoIterator<Item = AttestFlag>) -> Attest {
        let mut attest = Attest::default();
        for flag in flags {
            match flag {
                AttestFlag::Sbom(on) => attest.sbom = on,
                AttestFlag::Provenance(how) => attest.provenance = how,
            }
        }
        attest
    }

    /// Nothing is to be attested.
    pub fn is_empty(&self) -> bool {
        *self == Attest::default()
    }

    /// The attestations of an image.
    pub(crate) fn attestations(
        &self,
        image: &Image,
        tree: &dyn cache::TreeView,
        facts: &Facts<'_>,
    ) -> Result<Vec<Attestation>> {
        let mut attestations = Vec::new();
        if self.sbom {
            attestations.push(Attestation {
                predicate_type: "https://spdx.dev/Document",
                predicate: sbom::document(image, tree)?,
            });
        }
        if let Some(provenance) = &self.provenance {
            attestations.push(Attestation {
                predicate_type: "https://slsa.dev/provenance/v1",
                predicate: provenance::predicate(provenance, facts),
            });
        }
        Ok(attestations)
    }
}

/// One `--annotation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    places: Vec<(Place, Option<Platform>)>,
    key: String,
    value: String,
}

/// Where an annotation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Manifest,
    ManifestDescriptor,
    Index,
    IndexDescriptor,
}

impl FromStr for Annotation {
    type Err = Error;

    /// `[PLACE[PLATFORM][,PLACE…]:]KEY=VALUE`, as buildx has it.
    fn from_str(text: &str) -> Result<Annotation> {
        let wrong = |reason: &str| Error::Usage(format!("--annotation {text}: {reason}"));
        let (left, value) = text.split_once('=').ok_or_else(|| wrong("it must be KEY=VALUE"))?;
        let (places, key) = match left.split_once(':') {
            Some((places, key)) => (places, key),
            None => ("manifest", left),
        };
        let places = places.split(',').map(|place| {
            let (name, platform) = match place.strip_suffix(']').and_then(|place| place.split_once('[')) {
                Some((name, platform)) => {
                    (name, Some(platform.parse().map_err(|_| wrong("it has no valid platform"))?))
                }
                None => (place, None),
            };
            let place = match name {
                "manifest" => Place::Manifest,
                "manifest-descriptor" => Place::ManifestDescriptor,
                "index" => Place::Index,
                "index-descriptor" => Place::IndexDescriptor,
                _ => return Err(wrong("it stands in manifest, manifest-descriptor, index or index-descriptor")),
            };
            match (place, &platform) {
                (Place::Index | Place::IndexDescriptor, Some(_)) => Err(wrong("an index is of no platform")),
                _ => Ok((place, platform)),
            }
        });
        let places = places.collect::<Result<Vec<_>>>()?;
        if key.is_empty() {
            return Err(wrong("it has no key"));
        }
        Ok(Annotation { places, key: key.to_owned(), value: value.to_owned() })
    }
}

/// All annotations of a build.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annotated<'a>(pub(crate) &'a [Annotation]);

impl Annotated<'_> {
    /// An index is annotated: there must be one.
    pub(crate) fn need_index(self) -> bool {
        let of_index = |(place, _): &(Place, _)| matches!(place, Place::Index | Place::IndexDescriptor);
        self.0.iter().any(|annotation| annotation.places.iter().any(of_index))
    }

    fn at(self, wanted: Place, of: Option<&Platform>) -> Annotations {
        let mut found = BTreeMap::new();
        for Annotation { places, key, value } in self.0 {
            let here = |(place, platform): &(Place, Option<Platform>)| {
                *place == wanted && platform.as_ref().is_none_or(|platform| Some(platform) == of)
            };
            if places.iter().any(here) {
                found.insert(key.clone(), value.clone());
            }
        }
        found
    }

    /// Those of a manifest and of its descriptor.
    pub(crate) fn of_manifest(self, platform: &Platform) -> (Annotations, Annotations) {
        (self.at(Place::Manifest, Some(platform)), self.at(Place::ManifestDescriptor, Some(platform)))
    }

    /// Those of the index and of its descriptor.
    pub(crate) fn of_index(self) -> (Annotations, Annotations) {
        (self.at(Place::Index, None), self.at(Place::IndexDescriptor, None))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn attestations_are_asked_for_as_with_buildx() {
        let max = Provenance { mode: ProvenanceMode::Max, builder: None };
        assert_eq!(AttestFlag::provenance("mode=max").unwrap(), AttestFlag::Provenance(Some(max.clone())));
        assert_eq!("type=provenance,mode=max".parse::<AttestFlag>().unwrap(), AttestFlag::Provenance(Some(max)));
        assert_eq!(AttestFlag::provenance("false").unwrap(), AttestFlag::Provenance(None));
        assert_eq!("type=sbom,disabled=true".parse::<AttestFlag>().unwrap(), AttestFlag::Sbom(false));
        let both = Attest::of([AttestFlag::sbom("true").unwrap(), AttestFlag::provenance("").unwrap()]);
        assert!(both.sbom && both.provenance.is_some() && !both.is_empty());
        assert!(Attest::of([AttestFlag::Sbom(true), AttestFlag::Sbom(false)]).is_empty());
        for (text, expected) in [
            ("type=sbom,generator=x", "there is no generator"),
            ("type=provenance,mode=all", "min and max are"),
            ("type=provenance,version=v0.2", "version=v1"),
            ("type=vex", "is not known"),
            ("mode=max", "needs a type"),
            ("type=sbom,x=y", "`x` is not known"),
        ] {
            assert!(text.parse::<AttestFlag>().unwrap_err().to_string().contains(expected), "{text}");
        }
    }

    #[test]
    fn annotations_have_places_and_platforms() {
        let all = ["a=1", "index,manifest:b=2=3", "manifest-descriptor[linux/arm64]:c=4", "index-descriptor:d="];
        let all: Vec<Annotation> = all.iter().map(|text| text.parse().unwrap()).collect();
        let annotated = Annotated(&all);
        let keys = |found: &Annotations| found.keys().cloned().collect::<Vec<_>>().join(" ");
        let of = |platform: &str| annotated.of_manifest(&platform.parse().unwrap());
        assert_eq!((keys(&of("linux/amd64").0), keys(&of("linux/amd64").1)), ("a b".to_owned(), String::new()));
        assert_eq!(keys(&of("linux/arm64").1), "c");
        assert_eq!(annotated.of_index().0.get("b").unwrap(), "2=3");
        assert_eq!(keys(&annotated.of_index().1), "d");
        assert!(annotated.need_index() && !Annotated(all.get(..1).unwrap()).need_index());
        for bad in ["a", "layer:a=1", "index[linux/amd64]:a=1", "manifest[x y]:a=1", "=1"] {
            assert!(bad.parse::<Annotation>().is_err(), "{bad}");
        }
    }
}
