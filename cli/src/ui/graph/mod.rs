//! Steps as a graph: as a picture, and in Graphviz's language.
//!
//! The picture has a lane for each stage, and stages that need each other below each other. A step stands below all that it
//! needs; what it takes from elsewhere is drawn through the gaps between lanes and rows, so that no line crosses a step.

mod layout;
mod svg;

use super::foreign;

pub(crate) use svg::escape;

/// What is said of a step by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// It is in the cache.
    Cached,
    /// It runs, or ran.
    Runs,
    /// It ran and gave what it gave before.
    Same,
    /// Not known yet, or not reached.
    Open,
    /// It failed or was stopped.
    Failed,
}

impl Tone {
    /// The word for it; also a class of the picture's style.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Tone::Cached => "cached",
            Tone::Runs => "runs",
            Tone::Same => "same",
            Tone::Open => "open",
            Tone::Failed => "failed",
        }
    }
}

/// A step.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its number.
    pub(crate) number: usize,
    /// Its stage.
    pub(crate) stage: String,
    /// Base images that it stands on.
    pub(crate) bases: Vec<String>,
    /// The instruction.
    pub(crate) text: String,
    /// A second line: what becomes of it, and why.
    pub(crate) note: String,
    /// Numbers of the steps that it needs; the first is the one before it in its stage.
    pub(crate) inputs: Vec<usize>,
    /// Its colour.
    pub(crate) tone: Tone,
    /// It is drawn with a thick border.
    pub(crate) strong: bool,
}

/// All steps, those that are needed before those that need them.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    /// What it shows.
    pub(crate) title: String,
    /// In planning order.
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    /// In Graphviz's language, a cluster for each stage.
    pub(crate) fn dot(&self) -> String {
        let mut out = String::from(
            "digraph plan {\n  node [shape=box, style=\"rounded,filled\", fontname=\"monospace\", fillcolor=white];\n",
        );
        let mut stages: Vec<&str> = Vec::new();
        for node in &self.nodes {
            if !stages.contains(&node.stage.as_str()) {
                stages.push(&node.stage);
            }
        }
        for (index, stage) in stages.iter().enumerate() {
            out.push_str(&format!("  subgraph cluster_{index} {{\n    label={};\n", quoted(stage)));
            for node in self.nodes.iter().filter(|node| node.stage == *stage) {
                let colour = match node.tone {
                    Tone::Cached => "#d7f0dd",
                    Tone::Runs | Tone::Same => "#d5e6fb",
                    Tone::Open => "#f4efd6",
                    Tone::Failed => "#f9d9d6",
                };
                let label = format!("#{} {}\n{}", node.number, node.text, node.note);
                out.push_str(&format!("    s{} [label={}, fillcolor=\"{colour}\"];\n", node.number, quoted(&label)));
            }
            out.push_str("  }\n");
        }
        let mut bases: Vec<&str> = Vec::new();
        for node in &self.nodes {
            for base in &node.bases {
                let at = bases.iter().position(|known| known == base).unwrap_or_else(|| {
                    bases.push(base);
                    bases.len() - 1
                });
                out.push_str(&format!("  b{at} -> s{};\n", node.number));
            }
            for input in &node.inputs {
                out.push_str(&format!("  s{input} -> s{};\n", node.number));
            }
        }
        for (at, base) in bases.iter().enumerate() {
            out.push_str(&format!("  b{at} [label={}, shape=ellipse];\n", quoted(base)));
        }
        out.push_str("}\n");
        out
    }
}

/// A text of Graphviz's: quotes and backslashes stand for themselves, lines stay lines.
fn quoted(text: &str) -> String {
    format!("\"{}\"", foreign::lines(text).replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn node(number: usize, stage: &str, text: &str, inputs: &[usize]) -> Node {
        Node {
            number,
            stage: stage.to_owned(),
            bases: if inputs.is_empty() { vec!["base".to_owned()] } else { Vec::new() },
            text: text.to_owned(),
            note: "runs".to_owned(),
            inputs: inputs.to_vec(),
            tone: Tone::Runs,
            strong: false,
        }
    }

    #[test]
    fn dot_quotes_what_is_foreign() {
        let graph = Graph { title: String::new(), nodes: vec![node(1, "a\"b", "RUN echo \"x\\n\" \u{1b}[2J", &[])] };
        let dot = graph.dot();
        assert!(dot.contains(r#"label="a\"b""#), "{dot}");
        assert!(dot.contains(r##"label="#1 RUN echo \"x\\n\" \nruns""##), "{dot}");
    }
}
