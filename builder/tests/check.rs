//! Each rule of `dunnage check` on a file of its own: `testdata/check/RULE.Dockerfile`, whose first comments say what is found.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use cache::Image;
use dunnage_builder as builder;
use grammar::{CheckChoice, IgnoreRules, Parsed, Rule, Source};

/// What the comments at the top ask for and expect.
#[derive(Default)]
struct Case {
    ignores: String,
    architecture: Option<String>,
    arguments: Vec<(String, String)>,
    finds: Vec<(String, usize)>,
}

fn case(text: &str) -> Case {
    let mut case = Case::default();
    for line in text.lines().map_while(|line| line.strip_prefix("# ")) {
        match line.split_once(' ') {
            Some(("ignores", pattern)) => case.ignores = pattern.to_owned(),
            Some(("base", architecture)) => case.architecture = Some(architecture.to_owned()),
            Some(("argument", pair)) => {
                let (name, value) = pair.split_once('=').unwrap();
                case.arguments.push((name.to_owned(), value.to_owned()));
            }
            Some(("finds", finding)) => {
                let (rule, line) = finding.split_once(" at ").unwrap();
                case.finds.push((rule.to_owned(), line.parse().unwrap()));
            }
            _ => {}
        }
    }
    case.finds.sort();
    case
}

fn found(parsed: &Parsed, case: &Case) -> Vec<(String, usize)> {
    let dockerfile = &parsed.dockerfile;
    let options = builder::Options {
        platform: "linux/amd64".parse().unwrap(),
        build_args: case.arguments.iter().cloned().collect(),
        ..builder::Options::default()
    };
    let mut images = builder::BaseImages::new();
    if let Some(architecture) = &case.architecture {
        let config = format!(
            "{{\"architecture\":{architecture:?},\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[]}}}}"
        );
        for base in builder::bases(dockerfile, &options).unwrap() {
            images.insert(base.reference, Image::from_bytes(config.as_bytes()).unwrap());
        }
    }
    let rules = IgnoreRules::parse(&case.ignores).unwrap();
    let choice = CheckChoice::of(dockerfile).unwrap();
    let all = parsed.diagnostics.iter().cloned().chain(grammar::lint(parsed));
    let all = all.chain(builder::check(dockerfile, &options, &images, &rules));
    let wanted = all.filter(|diagnostic| choice.wants(diagnostic));
    let mut found: Vec<_> = wanted
        .map(|diagnostic| (diagnostic.code.to_owned(), diagnostic.source.location(diagnostic.span.start).0))
        .collect();
    found.sort();
    found
}

#[test]
fn each_rule_finds_what_its_file_says_and_nothing_else() {
    let folder = testdata::workspace().join("testdata/check");
    let mut seen = BTreeSet::new();
    for path in testdata::files(&folder, ".Dockerfile") {
        let source = Source::from_bytes("Dockerfile", &std::fs::read(&path).unwrap());
        let case = case(source.text());
        let parsed = grammar::parse(&source);
        assert_eq!(found(&parsed, &case), case.finds, "{}", path.display());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let rule = Rule::parse(name.trim_end_matches(".Dockerfile")).unwrap_or_else(|| panic!("{name} names no rule"));
        assert!(case.finds.iter().any(|(found, _)| found == rule.name()), "{name} does not find its own rule");
        seen.insert(rule);
    }
    let missing: Vec<_> = Rule::ALL.iter().filter(|rule| !seen.contains(rule)).collect();
    assert!(missing.is_empty(), "rules without a file: {missing:?}");
}
