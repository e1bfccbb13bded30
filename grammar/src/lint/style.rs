//! How the text is written: case of keywords and names, old forms, comments.

use super::rule::Rule;
use crate::diagnostic::Diagnostic;
use crate::parse::Parsed;
use crate::source::Source;
use crate::syntax::{Arguments, Node};

/// Names that a stage may not have because they are something else.
const RESERVED: [&str; 2] = ["context", "scratch"];

pub(super) fn check(parsed: &Parsed, found: &mut Vec<Diagnostic>) {
    let source = &parsed.dockerfile.source;
    let nodes = &parsed.syntax.nodes;
    let upper_is_usual = upper_is_usual(nodes);
    let mut in_stage = false;
    for node in nodes {
        in_stage |= node.command() == "FROM";
        if in_stage {
            found.extend(casing(source, node, upper_is_usual));
        }
        match node.command().as_str() {
            "FROM" => from(source, node, found),
            "MAINTAINER" => {
                let message = "Maintainer instruction is deprecated in favor of using label";
                found.push(Rule::MaintainerDeprecated.at(source, node.line_span, message));
            }
            _ => {}
        }
        found.extend(old_pairs(source, node));
        found.extend(description(source, node));
    }
}

/// Keywords that are neither all capitals nor all small do not count.
fn upper_is_usual(nodes: &[Node]) -> bool {
    let stages = nodes.iter().skip_while(|node| node.command() != "FROM");
    let (mut lower, mut upper) = (0, 0);
    for word in stages.map(|node| &node.keyword.text) {
        if *word == word.to_lowercase() {
            lower += 1;
        } else if *word == word.to_uppercase() {
            upper += 1;
        }
    }
    lower <= upper
}

fn casing(source: &Source, node: &Node, upper_is_usual: bool) -> Option<Diagnostic> {
    let word = &node.keyword.text;
    let (wanted, name) =
        if upper_is_usual { (word.to_uppercase(), "uppercase") } else { (word.to_lowercase(), "lowercase") };
    if *word == wanted {
        return None;
    }
    let message = format!("Command '{word}' should match the case of the command majority ({name})");
    let diagnostic = Rule::ConsistentInstructionCasing.at(source, node.keyword.span, message);
    Some(diagnostic.help(format!("write `{wanted}`")))
}

fn from(source: &Source, node: &Node, found: &mut Vec<Diagnostic>) {
    let Arguments::List(pieces) = &node.arguments else { return };
    let [_, middle, name] = pieces.as_slice() else { return };
    let keyword = &node.keyword.text;
    let is = |text: &str, other: String| *text == other;
    let same = if is(keyword, keyword.to_lowercase()) {
        is(&middle.text, middle.text.to_lowercase())
    } else if is(keyword, keyword.to_uppercase()) {
        is(&middle.text, middle.text.to_uppercase())
    } else {
        true
    };
    if !same {
        let message = format!("'{}' and '{keyword}' keywords' casing do not match", middle.text);
        found.push(Rule::FromAsCasing.at(source, middle.span, message));
    }
    let lower = name.text.to_lowercase();
    if name.text != lower {
        let message = format!("Stage name '{}' should be lowercase", name.text);
        found.push(Rule::StageNameCasing.at(source, name.span, message));
    }
    if RESERVED.contains(&lower.as_str()) {
        let message = format!("Stage name should not use the same name as reserved stage \"{lower}\"");
        found.push(Rule::ReservedStageName.at(source, name.span, message));
    }
}

fn old_pairs(source: &Source, node: &Node) -> Option<Diagnostic> {
    let Arguments::Pairs(pairs) = &node.arguments else { return None };
    if node.command() == "ARG" {
        return None;
    }
    let pair = pairs.iter().find(|pair| !pair.equals)?;
    let keyword = node.command();
    let message = format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format");
    let quoted = pair.value.text.contains(char::is_whitespace) && !pair.value.text.starts_with(['"', '\'']);
    let quote = if quoted { "\"" } else { "" };
    let fix = format!("write `{keyword} {}={quote}{}{quote}`", pair.key.text, pair.value.text);
    Some(Rule::LegacyKeyValueFormat.at(source, pair.span, message).help(fix))
}

/// The comment above a stage or an ARG begins with its name.
fn description(source: &Source, node: &Node) -> Option<Diagnostic> {
    let names: Vec<&str> = match (node.command().as_str(), &node.arguments) {
        ("FROM", Arguments::List(pieces)) => pieces.get(2).map(|name| name.text.as_str()).into_iter().collect(),
        ("ARG", Arguments::Pairs(pairs)) => pairs.iter().map(|pair| pair.key.text.as_str()).collect(),
        _ => return None,
    };
    let before = source.text().get(..node.span.start)?;
    let above = before.trim_end_matches([' ', '\t']).strip_suffix('\n')?;
    let above = above.trim_end_matches(|c: char| c != '\n' && c.is_whitespace());
    let line = above.rsplit('\n').next()?.trim_start();
    let comment = line.strip_prefix('#')?.trim();
    let is_directive = crate::rules::directive(line)
        .is_some_and(|(name, _)| ["syntax", "escape", "check"].contains(&name.to_lowercase().as_str()));
    let first = names.first().copied()?;
    if comment.is_empty() || is_directive || names.iter().any(|name| comment.split(' ').next() == Some(name)) {
        return None;
    }
    let example = if names.len() > 1 { "<arg_key>" } else { first };
    let message = format!("Comment for {} should follow the format: `# {example} <description>`", node.command());
    let span = crate::source::Span::new(above.len() - line.len(), above.len());
    Some(Rule::InvalidDefinitionDescription.at(source, span, message))
}
