//! The part of Go's text/template that `--format` is scripted with: fields, pipelines, `range`, `if`, and docker's functions.

mod eval;
mod parse;

use std::collections::BTreeSet;

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Show(Pipeline),
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    If { condition: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

/// Commands; each gets what the one before gave as its last argument.
type Pipeline = Vec<Vec<Operand>>;

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// `.` is an empty path, `.A.B` a path of two.
    Field(Vec<String>),
    /// `$`, and `$.A`: from the outermost value.
    Root(Vec<String>),
    Literal(Value),
    Function(String),
    Group(Pipeline),
}

impl Template {
    /// Parses; the error is one sentence.
    pub(crate) fn parse(text: &str) -> Result<Template, String> {
        Ok(Template { nodes: parse::parse(text)? })
    }

    /// Renders a value; the error is one sentence.
    pub(crate) fn render(&self, value: &Value) -> Result<String, String> {
        eval::render(&self.nodes, value)
    }

    /// First names of all fields that are shown, for the headings of a table.
    pub(crate) fn fields(&self) -> BTreeSet<String> {
        fn collect(pipeline: &Pipeline, into: &mut BTreeSet<String>) {
            for operand in pipeline.iter().flatten() {
                match operand {
                    Operand::Field(path) | Operand::Root(path) => into.extend(path.first().cloned()),
                    Operand::Group(inner) => collect(inner, into),
                    Operand::Literal(_) | Operand::Function(_) => {}
                }
            }
        }
        let mut names = BTreeSet::new();
        for node in &self.nodes {
            if let Node::Show(pipeline) = node {
                collect(pipeline, &mut names);
            }
        }
        names
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str) -> Result<String, String> {
        let value = json!({"Id": "sha256:abc", "Names": ["a", "b"], "N": 3, "Empty": [], "Config": {"Labels": {"k.x": "v", "k": "w"}, "User": ""}});
        Template::parse(template)?.render(&value)
    }

    #[test]
    fn what_scripts_use() {
        for (template, expected) in [
            ("{{.Id}}", "sha256:abc"),
            ("{{ .Config.Labels.k }}-{{.N}}", "w-3"),
            ("{{index .Config.Labels \"k.x\"}}", "v"),
            ("{{index .Names 1}}", "b"),
            ("{{json .Names}}", "[\"a\",\"b\"]"),
            ("{{.Names | json}}", "[\"a\",\"b\"]"),
            ("{{join .Names \", \"}}", "a, b"),
            ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
            ("{{range $i, $n := .Names}}{{$i}}{{end}}", "error"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .Config.User}}user{{else}}root{{end}}", "root"),
            ("{{if eq .N 3}}three{{end}}", "three"),
            ("{{len .Names}}", "2"),
            ("{{upper (index .Names 0)}}", "A"),
            ("a {{- .N -}} b", "a3b"),
            ("{{.Config.Labels.none}}", "<no value>"),
            ("{{.Names}}", "[a b]"),
            ("{{println .N}}", "3\n"),
            ("{{printf \"%s:%d\" .Id .N}}", "sha256:abc:3"),
        ] {
            match rendered(template) {
                Ok(text) => assert_eq!(text, expected, "{template}"),
                Err(error) => assert_eq!(expected, "error", "{template}: {error}"),
            }
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (template, part) in [
            ("{{.Idd}}", "Idd"),
            ("{{.Id", "}}"),
            ("{{range .Names}}", "end"),
            ("{{nope .Id}}", "nope"),
            ("{{end}}", "end"),
            ("{{\"x}}", "quote"),
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
