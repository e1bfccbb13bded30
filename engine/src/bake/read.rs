//! Project files of all formats as blocks: kind, name, and attributes that are not evaluated yet.

use std::collections::BTreeMap;

use hcl::expr::{Expression, ObjectKey, TemplateExpr};
use serde_json::Value;

use super::BakeFile;
use crate::error::{Error, Result};

/// What a project file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BakeFormat {
    /// `dunnage.toml`.
    Toml,
    /// `docker-bake.json`.
    Json,
    /// `docker-bake.hcl`.
    Hcl,
}

impl BakeFormat {
    /// By a file's name; what has no ending that says it is HCL when it looks like it.
    pub fn of(name: &str) -> BakeFormat {
        match name.rsplit_once('.') {
            Some((_, "json")) => BakeFormat::Json,
            Some((_, "hcl")) => BakeFormat::Hcl,
            _ => BakeFormat::Toml,
        }
    }
}

/// The attributes of a block.
pub(super) type Attributes = BTreeMap<String, Expression>;

/// All blocks of one or more files.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    pub(super) variables: BTreeMap<String, Attributes>,
    /// Names that are defined at the top level, not to be set from outside.
    pub(super) locals: Attributes,
    pub(super) targets: BTreeMap<String, Attributes>,
    pub(super) groups: BTreeMap<String, Attributes>,
    pub(super) functions: BTreeMap<String, Attributes>,
    /// The file that a target was first seen in, for messages.
    pub(super) files: BTreeMap<String, String>,
}

impl Blocks {
    /// Adds those of another file, which win attribute by attribute.
    pub(super) fn add(&mut self, other: Blocks) {
        let merge = |into: &mut BTreeMap<String, Attributes>, from: BTreeMap<String, Attributes>| {
            for (name, attributes) in from {
                into.entry(name).or_default().extend(attributes);
            }
        };
        merge(&mut self.variables, other.variables);
        merge(&mut self.targets, other.targets);
        merge(&mut self.groups, other.groups);
        merge(&mut self.functions, other.functions);
        self.locals.extend(other.locals);
        for (name, file) in other.files {
            self.files.entry(name).or_insert(file);
        }
    }

    fn insert(&mut self, file: &BakeFile, kind: &str, name: &str, attributes: Attributes) -> Result<()> {
        let into = match kind {
            "variable" => &mut self.variables,
            "target" => {
                self.files.insert(name.to_owned(), file.name.clone());
                &mut self.targets
            }
            "group" => &mut self.groups,
            "function" => &mut self.functions,
            other => {
                let help = grammar::nearest(other, ["variable", "target", "group", "function"])
                    .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(wrong(file, format!("`{other}` is no kind of block{help}")));
            }
        };
        match into.insert(name.to_owned(), attributes) {
            None => Ok(()),
            Some(_) => Err(wrong(file, format!("{kind} `{name}` is there twice"))),
        }
    }
}

/// An error of a project file.
pub(super) fn wrong(file: &BakeFile, reason: impl ToString) -> Error {
    Error::ProjectFile { file: file.name.clone(), reason: reason.to_string() }
}

pub(super) fn read(file: &BakeFile) -> Result<Blocks> {
    match file.format {
        BakeFormat::Hcl => hcl_blocks(file, &hcl::parse(&file.text).map_err(|error| wrong(file, error))?),
        BakeFormat::Json => data_blocks(file, serde_json::from_str(&file.text).map_err(|error| wrong(file, error))?),
        BakeFormat::Toml => data_blocks(
            file,
            toml::from_str(&file.text).map_err(|error: toml::de::Error| wrong(file, error.to_string().trim()))?,
        ),
    }
}

fn hcl_blocks(file: &BakeFile, body: &hcl::Body) -> Result<Blocks> {
    let mut blocks = Blocks::default();
    for attribute in body.attributes() {
        blocks.locals.insert(attribute.key().to_owned(), attribute.expr().clone());
    }
    for block in body.blocks() {
        let [name] = block.labels() else {
            return Err(wrong(file, format!("a `{}` block needs one name", block.identifier())));
        };
        let mut attributes: Attributes =
            block.body().attributes().map(|one| (one.key().to_owned(), one.expr().clone())).collect();
        let checks: Vec<Expression> = block.body().blocks().map(validation).collect();
        if let Some(other) = block.body().blocks().find(|inner| inner.identifier() != "validation") {
            return Err(wrong(
                file,
                format!(
                    "{} `{}`: a `{}` block has no place in it",
                    block.identifier(),
                    name.as_str(),
                    other.identifier()
                ),
            ));
        }
        if !checks.is_empty() {
            attributes.insert("validation".to_owned(), Expression::Array(checks));
        }
        blocks.insert(file, block.identifier(), name.as_str(), attributes)?;
    }
    Ok(blocks)
}

/// A validation block as an object, so that all formats have it alike.
fn validation(block: &hcl::Block) -> Expression {
    let fields = block.body().attributes();
    Expression::Object(fields.map(|one| (ObjectKey::from(one.key()), one.expr().clone())).collect())
}

/// JSON and TOML: `target.NAME.KEY`; texts are templates, as in HCL.
fn data_blocks(file: &BakeFile, value: Value) -> Result<Blocks> {
    let Value::Object(top) = value else {
        return Err(wrong(file, "it must be a map of `target`, `group` and `variable`"));
    };
    let mut blocks = Blocks::default();
    for (kind, named) in top {
        let is_kind = matches!(kind.as_str(), "variable" | "target" | "group" | "function");
        let Value::Object(named) = named else {
            if is_kind {
                return Err(wrong(file, format!("`{kind}` must be a map of names")));
            }
            blocks.locals.insert(kind, expression(named));
            continue;
        };
        for (name, body) in named {
            let attributes = match (kind.as_str(), body) {
                (_, Value::Object(body)) => body.into_iter().map(|(key, value)| (key, expression(value))).collect(),
                // The short forms: a group is a list, a variable is its value.
                ("group", list @ Value::Array(_)) => Attributes::from([("targets".to_owned(), expression(list))]),
                ("variable", value) => Attributes::from([("default".to_owned(), expression(value))]),
                (kind, _) => return Err(wrong(file, format!("{kind} `{name}` must be a map"))),
            };
            blocks.insert(file, &kind, &name, attributes)?;
        }
    }
    Ok(blocks)
}

fn expression(value: Value) -> Expression {
    match value {
        Value::Null => Expression::Null,
        Value::Bool(value) => Expression::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Expression::from(whole),
            (None, Some(float)) => Expression::from(float),
            (None, None) => Expression::Null,
        },
        Value::String(text) if text.contains("${") || text.contains("%{") => {
            Expression::from(TemplateExpr::QuotedString(text))
        }
        Value::String(text) => Expression::String(text),
        Value::Array(list) => Expression::Array(list.into_iter().map(expression).collect()),
        Value::Object(map) => {
            Expression::Object(map.into_iter().map(|(key, value)| (ObjectKey::from(key), expression(value))).collect())
        }
    }
}
