//! `images`, `tag`, `rmi`, `inspect`, `history`.

use std::path::PathBuf;

use engine::{Cancel, Reference, Removed, StoredImage};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Failure, Outcome, open};
use crate::args::{HistoryArgs, ImageFilter, ImagesArgs, RmiArgs, TagArgs};
use crate::config;
use crate::ui::table::{self, Column};
use crate::ui::{self, units};

const IMAGES: [Column; 5] =
    [("Repository", "REPOSITORY"), ("Tag", "TAG"), ("ID", "IMAGE ID"), ("CreatedSince", "CREATED"), ("Size", "SIZE")];
const WITH_DIGESTS: [Column; 6] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
];
const HISTORY: [Column; 5] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// Characters of an instruction that a table shows.
const INSTRUCTION_WIDTH: usize = 45;

const NO_NAME: &str = "<none>";

pub(super) fn list(root: Option<PathBuf>, args: &ImagesArgs) -> Outcome {
    let engine = open(root)?;
    let filters = ImageFilters::new(&engine, &args.filter)?;
    let users = engine.containers()?;
    let mut rows = Vec::new();
    for image in engine.images()?.iter().filter(|image| filters.allow(image)) {
        let count = users.iter().filter(|info| info.record.image == image.image.id).count();
        rows.extend(image_rows(image, args, &filters, count));
    }
    if args.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row.get("ID")?.as_str()).collect();
        ids.dedup();
        ids.iter().try_for_each(|id| ui::line(id))?;
    } else {
        let columns: &[Column] = if args.digests { &WITH_DIGESTS } else { &IMAGES };
        table::print(&rows, columns, args.format.as_deref())?;
    }
    Ok(0)
}

fn image_rows(
    image: &StoredImage,
    args: &ImagesArgs,
    filters: &ImageFilters<'_>,
    containers: usize,
) -> Vec<Map<String, Value>> {
    let digest_in = |place: &str| {
        let known = image.names.iter().find(|name| name.digest().is_some() && name.place() == place);
        known.and_then(Reference::digest).map_or_else(|| NO_NAME.to_owned(), ToString::to_string)
    };
    // A name by digest is a line of its own only where the repository has no tag for the image.
    let shown = |name: &&Reference| {
        name.tag().is_some() || image.names.iter().all(|other| other.tag().is_none() || other.place() != name.place())
    };
    let asked =
        image.names.iter().filter(shown).filter(|name| args.name.as_deref().is_none_or(|asked| wanted(name, asked)));
    let asked = asked.filter(|name| filters.allow_name(name));
    let mut names: Vec<(String, String, String)> = asked
        .map(|name| {
            let (repository, tag) = parts(name);
            (repository, tag, digest_in(&name.place()))
        })
        .collect();
    if names.is_empty() && image.names.is_empty() && (args.all || filters.dangling == Some(true)) && args.name.is_none()
    {
        names.push((NO_NAME.to_owned(), NO_NAME.to_owned(), NO_NAME.to_owned()));
    }
    let id = image.image.id.to_string();
    let created = image.image.config.created.clone();
    names
        .into_iter()
        .map(|(repository, tag, digest)| {
            row(json!({
                "Repository": repository,
                "Tag": tag,
                "ID": short(&id, args.no_trunc),
                "Digest": digest,
                "CreatedSince": units::ago(created.as_deref()),
                "CreatedAt": created.as_deref().map(units::docker_time_of),
                "Size": units::bytes(image.size),
                "VirtualSize": units::bytes(image.size),
                "SharedSize": "N/A",
                "UniqueSize": "N/A",
                "Containers": containers.to_string(),
            }))
        })
        .collect()
}

/// `NAME` asks for all its tags, `NAME:TAG` for one; `*` and `?` stand for what is between two `/`.
fn wanted(name: &Reference, asked: &str) -> bool {
    let (repository, tag) = parts(name);
    let forms = [repository.clone(), format!("{repository}:{tag}"), name.familiar()];
    forms.iter().any(|form| asked == form || matches(asked.as_bytes(), form.as_bytes()))
}

/// The patterns of Go's `path.Match`, but its brackets.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where to go on when what follows the last star does not fit: the star, and the text that it has taken.
    let mut star: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at), text.get(place)) {
            (Some(b'*'), _) => {
                star = Some((at, place));
                at += 1;
            }
            (None, None) => return true,
            (Some(b'?'), Some(byte)) if *byte != b'/' => (at, place) = (at + 1, place + 1),
            (Some(one), Some(byte)) if one == byte && *one != b'?' => (at, place) = (at + 1, place + 1),
            _ => match star {
                Some((from, taken)) if text.get(taken).is_some_and(|byte| *byte != b'/') => {
                    star = Some((from, taken + 1));
                    (at, place) = (from + 1, taken + 1);
                }
                _ => return false,
            },
        }
    }
}

/// `--filter` of `images`: references are alternatives, all others hold together.
struct ImageFilters<'a> {
    asked: &'a [ImageFilter],
    dangling: Option<bool>,
    /// When images were made that others are to be older than, and younger.
    before: Option<String>,
    since: Option<String>,
}

impl<'a> ImageFilters<'a> {
    fn new(engine: &engine::Engine, asked: &'a [ImageFilter]) -> Result<ImageFilters<'a>, Failure> {
        let mut filters = ImageFilters { asked, dangling: None, before: None, since: None };
        let created = |name: &str| -> Result<String, Failure> {
            let shown = engine.inspect(name)?;
            Ok(shown.get("Created").and_then(Value::as_str).unwrap_or_default().to_owned())
        };
        for filter in asked {
            match filter {
                ImageFilter::Dangling(dangling) => filters.dangling = Some(*dangling),
                ImageFilter::Before(name) => filters.before = Some(created(name)?),
                ImageFilter::Since(name) => filters.since = Some(created(name)?),
                _ => {}
            }
        }
        Ok(filters)
    }

    fn allow(&self, image: &StoredImage) -> bool {
        let time = |text: &str| text.parse::<Timestamp>().unwrap_or(Timestamp::UNIX_EPOCH);
        let created = time(image.image.config.created.as_deref().unwrap_or_default());
        let labels = &image.image.config.config.labels;
        self.dangling.is_none_or(|dangling| dangling == image.names.is_empty())
            && self.before.as_deref().is_none_or(|bound| created < time(bound))
            && self.since.as_deref().is_none_or(|bound| created > time(bound))
            && self.asked.iter().all(|filter| match filter {
                ImageFilter::Label(key, value) => {
                    labels.get(key).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
                }
                ImageFilter::Until(unix) => u64::try_from(created.as_second()).unwrap_or(0) < *unix,
                _ => true,
            })
    }

    fn allow_name(&self, name: &Reference) -> bool {
        let mut patterns = self.asked.iter().filter_map(|filter| match filter {
            ImageFilter::Reference(pattern) => Some(pattern.as_str()),
            _ => None,
        });
        let mut patterns = patterns.by_ref().peekable();
        patterns.peek().is_none() || patterns.any(|pattern| wanted(name, pattern))
    }
}

pub(super) fn parts(name: &Reference) -> (String, String) {
    let familiar = name.familiar();
    let tag = name.tag().unwrap_or(NO_NAME).to_owned();
    let repository = familiar.split('@').next().unwrap_or(&familiar);
    (repository.strip_suffix(&format!(":{tag}")).unwrap_or(repository).to_owned(), tag)
}

fn short(id: &str, whole: bool) -> String {
    if whole { id.to_owned() } else { id.trim_start_matches("sha256:").chars().take(12).collect() }
}

fn row(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

pub(super) fn tag(root: Option<PathBuf>, args: &TagArgs) -> Outcome {
    open(root)?.tag(&args.source, &args.target)?;
    Ok(0)
}

/// Every image is tried; those that could not be removed are told one by one.
pub(super) fn remove(root: Option<PathBuf>, args: &RmiArgs) -> Outcome {
    if args.remote {
        return remove_remote(args);
    }
    let engine = open(root)?;
    let mut code = 0;
    for image in &args.images {
        match engine.remove_image(image, args.force) {
            Ok(removed) => removed.iter().try_for_each(|removed| match removed {
                Removed::Untagged(name) => ui::line(&format!("Untagged: {name}")),
                Removed::Deleted(id) => ui::line(&format!("Deleted: {id}")),
            })?,
            // As with docker: by force, what is not there is gone.
            Err(error) if args.force && error.is_missing_image() => ui::note(&error.to_string()),
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}

fn remove_remote(args: &RmiArgs) -> Outcome {
    let (fetch, cancel) = (config::fetch(), Cancel::default());
    let _interrupt = ui::interrupt::watch(&cancel)?;
    let mut code = 0;
    for image in &args.images {
        match fetch.remove_remote(image, &cancel) {
            Ok(name) => ui::line(&format!("Removed: {}", name.familiar()))?,
            Err(error) => code = Failure::from(error).tell(),
        }
    }
    Ok(code)
}

pub(super) fn history(root: Option<PathBuf>, args: &HistoryArgs) -> Outcome {
    let entries = open(root)?.history(&args.image)?;
    let rows: Vec<Map<String, Value>> = entries
        .iter()
        .map(|entry| {
            let by = ui::foreign::line(&entry.created_by.replace(['\n', '\t'], " "));
            let shown = if args.no_trunc || by.chars().count() <= INSTRUCTION_WIDTH {
                by
            } else {
                by.chars().take(INSTRUCTION_WIDTH - 1).chain(['…']).collect()
            };
            row(json!({
                "ID": entry.image.as_deref().map_or_else(|| "<missing>".to_owned(), |id| short(id, args.no_trunc)),
                "CreatedSince": match args.human {
                    true => units::ago(entry.created.as_deref()),
                    false => entry.created.clone().unwrap_or_else(|| "N/A".to_owned()),
                },
                "CreatedAt": entry.created,
                "CreatedBy": shown,
                "Size": if args.human { units::bytes(entry.size) } else { entry.size.to_string() },
                "Comment": entry.comment,
            }))
        })
        .collect();
    if args.quiet {
        rows.iter().filter_map(|row| row.get("ID")?.as_str()).try_for_each(ui::line)?;
    } else {
        table::print(&rows, &HISTORY, args.format.as_deref())?;
    }
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_with_and_without_tag() {
        let name: Reference = "localhost:5000/a/b:1".parse().unwrap();
        assert_eq!(parts(&name), ("localhost:5000/a/b".to_owned(), "1".to_owned()));
        for asked in
            ["localhost:5000/a/b", "localhost:5000/a/b:1", "localhost:5000/*/b", "*/*/b:?", "localhost:5000/a/*"]
        {
            assert!(wanted(&name, asked), "{asked}");
        }
        for asked in ["localhost:5000/a/b:2", "*", "*b", "localhost:5000/?", "b"] {
            assert!(!wanted(&name, asked), "{asked}");
        }
    }
}
