//! Go's text/template as `--format` is scripted with it: fields, variables, pipelines, `range`, `if`, `with`, and docker's functions.

mod absent;
mod eval;
mod functions;
mod parse;
mod printf;
mod tokens;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A key that begins with this is a field which takes an argument, as `.Label "x"`. It is in no JSON.
pub(crate) const METHOD: char = '.';

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Show(Pipeline),
    /// `$x := …` and `$x = …`.
    Set {
        name: String,
        new: bool,
        value: Pipeline,
    },
    If {
        condition: Head,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Head,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Head,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Break,
    Continue,
}

/// What opens a block: a value, and the variables that it is given to.
#[derive(Debug, Clone, PartialEq)]
struct Head {
    names: Vec<String>,
    value: Pipeline,
}

/// Commands; each gets what the one before gave as its last argument.
type Pipeline = Vec<Vec<Operand>>;

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// `.` is an empty path, `.A.B` a path of two.
    Field(Vec<String>),
    /// `$` is an empty name, `$x.A` a name and a path.
    Variable(String, Vec<String>),
    Literal(Value),
    Function(String),
    /// `(…)`, `(…).A`.
    Group(Pipeline, Vec<String>),
}

impl Template {
    /// Parses; the error is one sentence.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        Ok(Template { nodes: parse::parse(text)? })
    }

    /// Renders a value; the error is one sentence.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        eval::render(&self.nodes, value, false)
    }

    /// Renders the line above a table: fields are their headings, and functions leave these as they are.
    pub(crate) fn heading(&self, headings: Map<String, Value>) -> Result<String, String> {
        eval::render(&self.nodes, &Value::Object(headings), true)
    }

    /// First names of all fields that are shown, for the headings of a table.
    pub(crate) fn fields(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        collect(&self.nodes, &mut names);
        names
    }
}

fn collect(nodes: &[Node], names: &mut BTreeSet<String>) {
    fn of_pipeline(pipeline: &Pipeline, into: &mut BTreeSet<String>) {
        for operand in pipeline.iter().flatten() {
            match operand {
                Operand::Field(path) | Operand::Variable(_, path) => into.extend(path.first().cloned()),
                Operand::Group(inner, _) => of_pipeline(inner, into),
                Operand::Literal(_) | Operand::Function(_) => {}
            }
        }
    }
    for node in nodes {
        match node {
            Node::Show(value) | Node::Set { value, .. } => of_pipeline(value, names),
            Node::If { condition: head, body, otherwise }
            | Node::With { value: head, body, otherwise }
            | Node::Range { over: head, body, otherwise } => {
                of_pipeline(&head.value, names);
                collect(body, names);
                collect(otherwise, names);
            }
            Node::Text(_) | Node::Break | Node::Continue => {}
        }
    }
}

#[cfg(test)]
mod tests;
