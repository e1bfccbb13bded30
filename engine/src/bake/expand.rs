//! From blocks to targets: variables get values, matrices become targets, inheritance is resolved.

use std::collections::BTreeMap;

use hcl::Value;
use hcl::eval::{Context, Evaluate};
use hcl::expr::Expression;
use serde::de::DeserializeOwned;

use super::inline::Functions;
use super::model::BakeTarget;
use super::read::{Attributes, Blocks};
use super::{BakeVariable, COMMAND_CONTEXT, Project, functions};
use crate::error::{Error, Result};

/// Most targets that a matrix may become.
const MATRIX_LIMIT: usize = 1000;

/// Values that a combination of a matrix gives to names.
type Combination = Vec<(String, Value)>;

pub(super) fn expand(blocks: Blocks, environment: &dyn Fn(&str) -> Option<String>) -> Result<Project> {
    let Blocks { variables, locals, targets, groups, files, .. } = without_functions(blocks)?;
    let mut context = functions::context();
    // Bake's own names: what this machine is, and where the command was given.
    context.declare_var("BAKE_LOCAL_PLATFORM", cache::Platform::host().to_string());
    context.declare_var("BAKE_CMD_CONTEXT", COMMAND_CONTEXT);
    let mut project =
        Project { variables: declare(&mut context, &variables, &locals, environment)?, ..Project::default() };
    let mut plain = BTreeMap::new();
    for (name, attributes) in &targets {
        let expander = Expander { context: &context, name, file: files.get(name).map_or("", String::as_str) };
        let made = expander.targets(attributes)?;
        if attributes.contains_key("matrix") {
            project.groups.insert(name.clone(), made.iter().map(|(name, _)| name.clone()).collect());
        }
        for (made, target) in made {
            if plain.insert(made.clone(), target).is_some() {
                return Err(expander.wrong(format!("two targets are named `{made}`")));
            }
        }
    }
    for (name, attributes) in &groups {
        let expander = Expander { context: &context, name, file: "" };
        let members = attributes.get("targets").map(|list| expander.value("targets", list, &context));
        let members = members.transpose()?.map(|list| expander.decode("targets", list)).transpose()?;
        project.groups.insert(name.clone(), members.unwrap_or_default());
    }
    for name in plain.keys() {
        project.targets.insert(name.clone(), inherit(name, &plain, &mut Vec::new())?);
    }
    Ok(project)
}

/// The blocks with the calls of the files' own functions replaced by what these give.
fn without_functions(mut blocks: Blocks) -> Result<Blocks> {
    let of = |kind: &str, name: &str, reason: String| Error::ProjectFile { file: format!("{kind} `{name}`"), reason };
    let functions = Functions::read(&blocks.functions).map_err(|(name, reason)| of("function", &name, reason))?;
    let inline = |kind: &str, name: &str, expression: &mut Expression| -> Result<()> {
        *expression = functions.inline(expression).map_err(|reason| of(kind, name, reason))?;
        Ok(())
    };
    for (name, expression) in &mut blocks.locals {
        inline("variable", name, expression)?;
    }
    for (kind, named) in
        [("variable", &mut blocks.variables), ("target", &mut blocks.targets), ("group", &mut blocks.groups)]
    {
        for (name, attributes) in named {
            attributes.values_mut().try_for_each(|expression| inline(kind, name, expression))?;
        }
    }
    Ok(blocks)
}

/// Gives every variable its value: the environment's, else its default, which may name other variables.
fn declare(
    context: &mut Context<'_>,
    variables: &BTreeMap<String, Attributes>,
    locals: &Attributes,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<BakeVariable>> {
    let default = |block: &Attributes| block.get("default").cloned().unwrap_or(Expression::Null);
    let mut open: Vec<(&String, Expression)> = variables.iter().map(|(name, block)| (name, default(block))).collect();
    open.extend(locals.iter().map(|(name, value)| (name, value.clone())));
    let mut listed = Vec::new();
    while !open.is_empty() {
        let before = open.len();
        let mut failed = Vec::new();
        let mut reasons = Vec::new();
        for (name, expression) in open {
            let value = match expression.evaluate(context) {
                Ok(value) => value,
                // It may name a variable that has its value only after this round.
                Err(error) => {
                    reasons.push(variable_error(name, error));
                    failed.push((name, expression));
                    continue;
                }
            };
            let given = variables.contains_key(name).then(|| environment(name)).flatten();
            let value = given.map_or(Ok(value.clone()), |text| typed(name, text, &value))?;
            context.declare_var(name.as_str(), value.clone());
            if let Some(block) = variables.get(name) {
                listed.push(variable(name, value, block, context)?);
            }
        }
        if failed.len() == before {
            return reasons.into_iter().next().map_or(Ok(Vec::new()), Err);
        }
        open = failed;
    }
    for (name, block) in variables {
        if let Some(checks) = block.get("validation") {
            validate(name, checks, context)?;
        }
    }
    listed.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(listed)
}

fn variable(name: &str, value: Value, block: &Attributes, context: &Context<'_>) -> Result<BakeVariable> {
    if let Some(other) =
        block.keys().find(|key| !["default", "description", "validation", "type"].contains(&key.as_str()))
    {
        return Err(variable_error(name, format!("it has no `{other}`")));
    }
    let description = match block.get("description") {
        Some(text) => text.evaluate(context).ok().and_then(|text| text.as_str().map(str::to_owned)),
        None => None,
    };
    let value = serde_json::to_value(&value).map_err(|error| variable_error(name, error))?;
    Ok(BakeVariable { name: name.to_owned(), value, description })
}

fn variable_error(name: &str, reason: impl ToString) -> Error {
    Error::ProjectFile { file: format!("variable `{name}`"), reason: reason.to_string() }
}

/// A text of the environment as what the default is.
fn typed(name: &str, text: String, default: &Value) -> Result<Value> {
    let wrong = |what: &str| variable_error(name, format!("the environment has `{text}`, and it must be {what}"));
    Ok(match default {
        Value::Bool(_) => Value::from(match text.as_str() {
            "1" | "true" | "yes" | "TRUE" | "True" => true,
            "0" | "false" | "no" | "FALSE" | "False" | "" => false,
            _ => return Err(wrong("true or false")),
        }),
        Value::Number(_) => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(whole), _) => Value::from(whole),
            (Err(_), Ok(float)) => Value::from(float),
            (Err(_), Err(_)) => return Err(wrong("a number")),
        },
        Value::Array(_) | Value::Object(_) => {
            let data: serde_json::Value = serde_json::from_str(&text).map_err(|_| wrong("JSON"))?;
            hcl::to_value(data).map_err(|error| variable_error(name, error))?
        }
        Value::Null | Value::String(_) => Value::from(text),
    })
}

fn validate(name: &str, checks: &Expression, context: &Context<'_>) -> Result<()> {
    let Expression::Array(checks) = checks else {
        return Err(variable_error(name, "`validation` must be a list"));
    };
    for check in checks {
        let Expression::Object(fields) = check else { continue };
        let field = |key: &str| fields.iter().find(|(known, _)| known.to_string() == key).map(|(_, value)| value);
        let Some(condition) = field("condition") else {
            return Err(variable_error(name, "a validation needs a `condition`"));
        };
        let holds = condition.evaluate(context).map_err(|error| variable_error(name, error))?;
        if holds != Value::Bool(true) {
            let message = field("error_message").and_then(|text| text.evaluate(context).ok());
            let message = message.as_ref().and_then(Value::as_str).unwrap_or("its value is not accepted").to_owned();
            return Err(variable_error(name, message));
        }
    }
    Ok(())
}

/// Evaluates one block.
struct Expander<'a> {
    context: &'a Context<'a>,
    name: &'a str,
    file: &'a str,
}

impl Expander<'_> {
    fn wrong(&self, reason: impl ToString) -> Error {
        let place = if self.file.is_empty() { String::new() } else { format!("{}: ", self.file) };
        Error::ProjectFile { file: format!("{place}`{}`", self.name), reason: reason.to_string() }
    }

    fn value(&self, key: &str, expression: &Expression, context: &Context<'_>) -> Result<Value> {
        expression.evaluate(context).map_err(|error| self.wrong(format!("{key}: {error}")))
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, value: Value) -> Result<T> {
        let value = serde_json::to_value(value).map_err(|error| self.wrong(format!("{key}: {error}")))?;
        serde_json::from_value(value).map_err(|error| self.wrong(format!("{key}: {error}")))
    }

    /// The target that a block is, or the targets that its matrix makes of it.
    fn targets(&self, attributes: &Attributes) -> Result<Vec<(String, BakeTarget)>> {
        let Some(matrix) = attributes.get("matrix") else {
            if attributes.contains_key("name") {
                return Err(self.wrong("`name` belongs to a `matrix`"));
            }
            return Ok(vec![(self.name.to_owned(), self.target(attributes, self.context)?)]);
        };
        let Some(name) = attributes.get("name") else {
            return Err(self.wrong("a `matrix` needs a `name` with its values, such as `app-${item}`"));
        };
        let mut made = Vec::new();
        for combination in self.combinations(matrix)? {
            let mut context = self.context.clone();
            for (name, value) in combination {
                context.declare_var(name, value);
            }
            let name: String = self.decode("name", self.value("name", name, &context)?)?;
            made.push((name, self.target(attributes, &context)?));
        }
        Ok(made)
    }

    fn combinations(&self, matrix: &Expression) -> Result<Vec<Combination>> {
        let Value::Object(axes) = self.value("matrix", matrix, self.context)? else {
            return Err(self.wrong("`matrix` must be a map of lists"));
        };
        let mut combinations: Vec<Combination> = vec![Vec::new()];
        for (axis, values) in axes {
            let Value::Array(values) = values else {
                return Err(self.wrong(format!("`matrix.{axis}` must be a list")));
            };
            if combinations.len().saturating_mul(values.len()) > MATRIX_LIMIT {
                return Err(self.wrong(format!("its matrix has more than {MATRIX_LIMIT} combinations")));
            }
            let with = |combination: &Combination, value: &Value| {
                let mut longer = combination.clone();
                longer.push((axis.clone(), value.clone()));
                longer
            };
            combinations = combinations
                .iter()
                .flat_map(|one| values.iter().map(|value| with(one, value)).collect::<Vec<_>>())
                .collect();
        }
        Ok(combinations)
    }

    fn target(&self, attributes: &Attributes, context: &Context<'_>) -> Result<BakeTarget> {
        let mut fields = serde_json::Map::new();
        for (key, expression) in attributes.iter().filter(|(key, _)| *key != "matrix" && *key != "name") {
            let value = self.value(key, expression, context)?;
            // An attribute that is null is one that is not there, and so is a text of a list that is empty.
            let value = match value {
                Value::Array(list) => list.into_iter().filter(|one| !is_nothing(one)).collect(),
                other => other,
            };
            if value != Value::Null {
                fields.insert(key.clone(), serde_json::to_value(value).map_err(|error| self.wrong(error))?);
            }
        }
        serde_json::from_value(serde_json::Value::Object(fields)).map_err(|error| self.wrong(error))
    }
}

fn is_nothing(value: &Value) -> bool {
    *value == Value::Null || value.as_str() == Some("")
}

/// A target over all that it inherits; later names in `inherits` win over earlier ones.
fn inherit(name: &str, plain: &BTreeMap<String, BakeTarget>, path: &mut Vec<String>) -> Result<BakeTarget> {
    let wrong = |reason: String| Error::ProjectFile { file: format!("`{name}`"), reason };
    if path.iter().any(|above| above == name) {
        return Err(wrong(format!("it inherits from itself: {} → {name}", path.join(" → "))));
    }
    let Some(target) = plain.get(name) else {
        let from = path.last().map(String::as_str).unwrap_or_default();
        let near = grammar::nearest(name, plain.keys().map(String::as_str));
        let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        return Err(Error::ProjectFile {
            file: format!("`{from}`"),
            reason: format!("it inherits from `{name}`, which is no target{help}"),
        });
    };
    path.push(name.to_owned());
    let mut below = BakeTarget::default();
    for parent in &target.inherits {
        below = inherit(parent, plain, path)?.over(&below);
    }
    path.pop();
    Ok(target.clone().over(&below))
}
