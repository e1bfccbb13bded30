//! The findings of `dunnage check` under the names of BuildKit's rules.

use std::collections::BTreeSet;

use dunnage_builder as builder;
use grammar::{CheckChoice, IgnoreRules, Parsed, Rule, RuleKind, Severity};
use serde_json::Value;

use crate::{bases, corpus, index, pair};

/// Rule, line and message.
type Finding = (String, usize, String);

/// All findings that BuildKit has a rule for, at the line where their instruction begins, as BuildKit places them.
fn findings(parsed: &Parsed) -> Vec<Finding> {
    let choice = CheckChoice::of(&parsed.dockerfile).unwrap_or_default();
    let (options, images) = bases(&parsed.dockerfile);
    let found = parsed.diagnostics.iter().cloned().chain(grammar::lint(parsed));
    let found = found.chain(builder::check(&parsed.dockerfile, &options, &images, &IgnoreRules::none()));
    let start_of = |offset: usize| {
        let node = parsed.syntax.nodes.iter().find(|node| node.span.start <= offset && offset <= node.span.end);
        node.map_or(0, |node| node.lines.0)
    };
    found
        .filter(|diagnostic| diagnostic.severity == Severity::Warning && choice.wants(diagnostic))
        .filter(|diagnostic| Rule::parse(diagnostic.code).is_none_or(|rule| rule.kind() != RuleKind::Own))
        .map(|diagnostic| (diagnostic.code.to_owned(), start_of(diagnostic.span.start), diagnostic.message))
        .collect()
}

/// Lines of the stages that the last one needs: BuildKit looks at no others, dunnage at all.
fn needed_lines(parsed: &Parsed) -> BTreeSet<usize> {
    let (options, images) = bases(&parsed.dockerfile);
    let Ok(plan) = builder::plan(&parsed.dockerfile, &options, &images) else { return BTreeSet::new() };
    let stages: BTreeSet<usize> = plan.steps().map(|step| step.stage_index).collect();
    let mut stage = None;
    let mut lines = BTreeSet::new();
    for node in &parsed.syntax.nodes {
        if node.command() == "FROM" {
            stage = Some(stage.map_or(0, |index| index + 1));
        }
        if stage.is_none_or(|index| stages.contains(&index)) {
            lines.insert(node.lines.0);
        }
    }
    lines
}

fn differences(name: &str, parsed: &Parsed, golden: &Value) -> Vec<String> {
    let rows = golden["lint"].as_array().cloned().unwrap_or_default();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let theirs: Vec<Finding> = rows
        .iter()
        .map(|row| (text(row, "rule"), row["line"].as_u64().unwrap_or_default() as usize, text(row, "msg")))
        .collect();
    let ours = findings(parsed);
    let needed = needed_lines(parsed);
    // An empty line is at its instruction's end there.
    let same = |one: &Finding, other: &Finding| {
        one.0 == other.0 && one.2 == other.2 && (one.1 == other.1 || one.0 == "NoEmptyContinuation")
    };
    let missing = theirs.iter().filter(|row| !ours.iter().any(|other| same(row, other)));
    let more = ours.iter().filter(|row| needed.contains(&row.1) && !theirs.iter().any(|other| same(row, other)));
    missing
        .map(|row| format!("{name}: only theirs {row:?}"))
        .chain(more.map(|row| format!("{name}: only ours {row:?}")))
        .collect()
}

#[test]
fn corpus_findings_are_those_of_buildkit() {
    let Some(folder) = corpus() else { return };
    let mut wrong = Vec::new();
    for (set, file, expect) in index(&folder) {
        if expect != "parse-ok" {
            continue;
        }
        let (source, golden) = pair(&folder, &set, &file);
        wrong.extend(differences(&file, &grammar::parse(&source), &golden));
    }
    assert!(wrong.is_empty(), "{} findings differ:\n{}", wrong.len(), wrong.join("\n"));
}
