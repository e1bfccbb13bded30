//! What a check found, for programs: one JSON object, or SARIF 2.1.0.

use engine::Checked;
use grammar::{Diagnostic, Rule, Severity};
use serde_json::{Value, json};

/// `findings` in file order, and their numbers. The form is stable: fields are added, none goes.
pub(crate) fn json(checked: &Checked) -> String {
    let finding = |diagnostic: &Diagnostic| {
        let ((line, column), (end_line, end_column)) = place(diagnostic);
        json!({
            "rule": diagnostic.code,
            "severity": severity(diagnostic),
            "message": diagnostic.message,
            "file": diagnostic.source.name(),
            "line": line, "column": column, "endLine": end_line, "endColumn": end_column,
            "why": diagnostic.notes,
            "fix": diagnostic.help,
        })
    };
    let document = json!({
        "findings": checked.findings.iter().map(finding).collect::<Vec<_>>(),
        "errors": checked.count(Severity::Error),
        "warnings": checked.count(Severity::Warning),
        "hints": checked.count(Severity::Hint),
    });
    format!("{document:#}")
}

/// A SARIF log with one run (OASIS SARIF 2.1.0, 3.13).
pub(crate) fn sarif(checked: &Checked) -> String {
    let result = |diagnostic: &Diagnostic| {
        let ((line, column), (end_line, end_column)) = place(diagnostic);
        let level = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Hint => "note",
        };
        json!({
            "ruleId": diagnostic.code,
            "level": level,
            "message": {"text": message(diagnostic)},
            "locations": [{"physicalLocation": {
                "artifactLocation": {"uri": diagnostic.source.name()},
                "region": {"startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column},
            }}],
        })
    };
    let rule = |rule: &Rule| {
        json!({
            "id": rule.name(),
            "shortDescription": {"text": rule.why()},
            "help": {"text": rule.fix()},
        })
    };
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "dunnage",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": Rule::ALL.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": checked.findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{document:#}")
}

fn message(diagnostic: &Diagnostic) -> String {
    let mut text = diagnostic.message.clone();
    if let Some(help) = &diagnostic.help {
        text.push_str(": ");
        text.push_str(help);
    }
    text
}

fn severity(diagnostic: &Diagnostic) -> Value {
    match diagnostic.severity {
        Severity::Error => json!("error"),
        Severity::Warning => json!("warning"),
        Severity::Hint => json!("hint"),
    }
}

/// Line and column of the first character, and behind the last.
fn place(diagnostic: &Diagnostic) -> ((usize, usize), (usize, usize)) {
    let source = &diagnostic.source;
    (source.location(diagnostic.span.start), source.location(diagnostic.span.end.max(diagnostic.span.start)))
}
