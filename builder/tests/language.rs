//! The rules of the language, each as a file of `testdata/language` beside the text of what it means.
//!
//! The names begin with the acceptance case that a file shows.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;

use dunnage_builder as builder;
use grammar::{Diagnostic, Parsed, Severity, Source};

/// Problems, or the plan with configuration and history, over bases that hold nothing.
fn meaning(source: &Source) -> String {
    let parsed = grammar::parse(source);
    let mut out = String::new();
    for diagnostic in parsed.diagnostics.iter().chain(&grammar::lint(&parsed)) {
        problem(&mut out, diagnostic);
    }
    if parsed.diagnostics.iter().all(|diagnostic| diagnostic.severity != Severity::Error) {
        plan(&mut out, &parsed);
    }
    out
}

fn plan(out: &mut String, parsed: &Parsed) {
    let platform: cache::Platform = "linux/amd64".parse().unwrap();
    let options =
        builder::Options { platform: platform.clone(), build_platform: platform, ..builder::Options::default() };
    let empty = r#"{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let image = cache::Image::from_bytes(empty.as_bytes()).unwrap();
    let bases = builder::bases(&parsed.dockerfile, &options).unwrap_or_default();
    let images = bases.into_iter().map(|base| (base.reference, image.clone())).collect();
    match builder::plan(&parsed.dockerfile, &options, &images) {
        Err(builder::Error::Dockerfile(diagnostics)) => {
            diagnostics.iter().for_each(|diagnostic| problem(out, diagnostic));
        }
        Err(other) => writeln!(out, "{other}").unwrap(),
        Ok(plan) => {
            plan.warnings.iter().for_each(|diagnostic| problem(out, diagnostic));
            if let Err(builder::Error::Dockerfile(refused)) = plan.check_supported() {
                refused.iter().for_each(|diagnostic| problem(out, diagnostic));
            }
            writeln!(out, "\nplan:\n{}", plan.to_text().trim_end()).unwrap();
            writeln!(out, "\nhistory:").unwrap();
            for (line, layer) in plan.history() {
                writeln!(out, "{} {line:?}", if layer { "layer" } else { "  -  " }).unwrap();
            }
            writeln!(out, "\nconfiguration:\n{:#}", serde_json::to_value(plan.run_config()).unwrap()).unwrap();
        }
    }
}

fn problem(out: &mut String, diagnostic: &Diagnostic) {
    let (line, column) = diagnostic.source.location(diagnostic.span.start);
    let severity = format!("{:?}", diagnostic.severity).to_lowercase();
    writeln!(out, "{line}:{column} {severity} {}: {}", diagnostic.code, diagnostic.message).unwrap();
    if let Some(help) = &diagnostic.help {
        writeln!(out, "    help: {help}").unwrap();
    }
}

/// What this version cannot perform has a place and no remedy.
const REFUSED: &str = "is not supported by this version";

#[test]
fn each_mistake_has_a_remedy() {
    let mut mistakes = 0;
    let mut folders: Vec<_> = testdata::corpus().into_iter().collect();
    folders.push(testdata::workspace().join("testdata/language"));
    for path in folders.iter().flat_map(|folder| testdata::files(folder, ".Dockerfile")) {
        let text = meaning(&Source::from_bytes("Dockerfile", &std::fs::read(&path).unwrap()));
        let lines: Vec<&str> = text.lines().collect();
        let errors = lines.iter().enumerate().filter(|(_, line)| line.contains(" error K") && !line.contains(REFUSED));
        for (at, line) in errors {
            mistakes += 1;
            let remedy = lines.get(at + 1).is_some_and(|next| next.starts_with("    help: "));
            assert!(remedy, "{}: {line}", path.display());
        }
    }
    assert!(mistakes > 30, "only {mistakes}");
}

#[test]
fn each_file_means_what_is_written_beside_it() {
    let files = testdata::files(&testdata::workspace().join("testdata/language"), ".Dockerfile");
    assert!(files.len() > 60, "only {} files", files.len());
    for path in files {
        let source = Source::new("Dockerfile", std::fs::read_to_string(&path).unwrap());
        testdata::expect_file(&path.with_extension("expected"), &meaning(&source));
    }
}
