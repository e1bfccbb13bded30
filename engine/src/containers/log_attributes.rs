//! What docker's json-file driver can write beside each line: a tag made of the container's names, and such of its labels
//! and variables as are asked for.

use std::collections::BTreeMap;

use cache::Image;
use serde::{Deserialize, Serialize};

use super::spec::{ContainerSpec, set_variables};

/// Fields of docker's templates, and what each says.
const FIELDS: [&str; 13] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "Command",
    "Hostname",
    "DaemonName",
    "ContainerID",
    "ContainerName",
    "ContainerImageID",
    "ContainerImageName",
];

/// `--log-opt tag=`, `labels=`, `labels-regex=`, `env=` and `env-regex=`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogAttributes {
    /// A template that [`check_log_tag`] has seen.
    pub tag: Option<String>,
    /// Labels by name.
    pub labels: Vec<String>,
    /// Labels whose names this finds.
    pub labels_regex: Option<String>,
    /// Variables by name.
    pub env: Vec<String>,
    /// Variables whose names this finds.
    pub env_regex: Option<String>,
}

/// Whether a tag is made of text and docker's fields.
///
/// # Errors
/// The sentence to show.
pub fn check_log_tag(text: &str) -> Result<(), String> {
    expand(text, |_| String::new()).map(drop)
}

/// Whether a pattern can be read.
///
/// # Errors
/// The sentence to show.
pub fn check_log_pattern(text: &str) -> Result<(), String> {
    regex_lite::Regex::new(text).map(drop).map_err(|error| format!("`{text}` is no pattern: {error}"))
}

fn expand(text: &str, value: impl Fn(&str) -> String) -> Result<String, String> {
    let (mut expanded, mut rest) = (String::new(), text);
    while let Some((before, behind)) = rest.split_once("{{") {
        let bad = || format!("the tag `{text}` has a `{{{{` that is not closed");
        let (field, after) = behind.split_once("}}").ok_or_else(bad)?;
        let name = field.trim().strip_prefix('.').unwrap_or_default();
        if !FIELDS.contains(&name) {
            let known: Vec<String> = FIELDS.iter().map(|name| format!("{{{{.{name}}}}}")).collect();
            return Err(format!("`{{{{{field}}}}}` is no field of a tag: {} are", known.join(", ")));
        }
        expanded.push_str(before);
        expanded.push_str(&value(name));
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

impl LogAttributes {
    /// Whether none is asked for.
    pub(super) fn is_empty(&self) -> bool {
        *self == LogAttributes::default()
    }

    /// What each line of a container is to have.
    pub(super) fn of(&self, id: &str, name: &str, spec: &ContainerSpec, image: &Image) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        if self.is_empty() {
            return found;
        }
        let mut labels = image.config.config.labels.clone();
        labels.extend(spec.labels.clone());
        choose(&labels, &self.labels, self.labels_regex.as_deref(), &mut found);
        let mut variables = image.config.config.env.clone();
        set_variables(&mut variables, &spec.env);
        let pairs = variables.iter().filter_map(|entry| entry.split_once('='));
        let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        choose(&variables, &self.env, self.env_regex.as_deref(), &mut found);
        if let Some(tag) = &self.tag {
            let image_id = image.id.to_string();
            let words = spec.argv(image).unwrap_or_default().join(" ");
            let value = |field: &str| match field {
                "ID" => short(id),
                "FullID" | "ContainerID" => id.to_owned(),
                "Name" => name.to_owned(),
                "ContainerName" => format!("/{name}"),
                "ImageID" => short(image_id.trim_start_matches("sha256:")),
                "ImageFullID" | "ContainerImageID" => image_id.clone(),
                "ImageName" | "ContainerImageName" => spec.image.clone(),
                "Command" => words.clone(),
                "Hostname" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
                _ => "dunnage".to_owned(),
            };
            found.extend(expand(tag, value).ok().map(|tag| ("tag".to_owned(), tag)));
        }
        found
    }
}

fn choose(
    all: &BTreeMap<String, String>,
    names: &[String],
    pattern: Option<&str>,
    found: &mut BTreeMap<String, String>,
) {
    let pattern = pattern.and_then(|pattern| regex_lite::Regex::new(pattern).ok());
    let is_meant = |name: &String| names.contains(name) || pattern.as_ref().is_some_and(|meant| meant.is_match(name));
    found.extend(all.iter().filter(|(name, _)| is_meant(name)).map(|(name, value)| (name.clone(), value.clone())));
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_text_and_dockers_fields() {
        let echo = |field: &str| format!("<{field}>");
        assert_eq!(expand("a {{.Name}}/{{ .ID }}.", echo).unwrap(), "a <Name>/<ID>.");
        assert_eq!(expand("plain", echo).unwrap(), "plain");
        for bad in ["{{.Nothing}}", "{{Name}}", "{{.Name", "{{json .}}", "{{}}"] {
            assert!(check_log_tag(bad).is_err(), "{bad}");
        }
        assert!(check_log_pattern("(").is_err() && check_log_pattern("^a").is_ok());
    }

    #[test]
    fn labels_and_variables_are_chosen_by_name_and_by_pattern() {
        let mut config = cache::ImageConfig::default();
        config.config.env = vec!["PATH=/p".to_owned(), "OF_IMAGE=1".to_owned()];
        config.config.labels.insert("kind".to_owned(), "image".to_owned());
        let image = Image::from_config(config).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let spec = ContainerSpec {
            labels: BTreeMap::from([pair("kind", "own"), pair("org.a", "1"), pair("other", "2")]),
            env: vec!["OWN=x".to_owned()],
            ..ContainerSpec::default()
        };
        let asked = LogAttributes {
            labels: vec!["kind".to_owned(), "absent".to_owned()],
            labels_regex: Some("^org\\.".to_owned()),
            env: vec!["OWN".to_owned()],
            env_regex: Some("^OF_".to_owned()),
            tag: Some("{{.Name}}".to_owned()),
        };
        let found = asked.of("0123456789abcdef", "web", &spec, &image);
        let wanted =
            [pair("kind", "own"), pair("org.a", "1"), pair("OWN", "x"), pair("OF_IMAGE", "1"), pair("tag", "web")];
        assert_eq!(found, BTreeMap::from(wanted));
        assert!(LogAttributes::default().of("x", "y", &spec, &image).is_empty());
    }
}
