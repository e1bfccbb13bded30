//! Verdict, nodes, stages, configuration and history of each file.

use dunnage_builder as builder;
use grammar::{Arguments, Dockerfile, Node, Severity, Source};
use serde_json::{Value, json};

use crate::{bases, corpus, index, pair};

/// Where dunnage does better than BuildKit (docs/dockerfile.md): what its golden says, or what we say, begins so.
const BETTER: [&str; 4] = [
    "variable expansion is not supported for --from",
    "COPY of several sources needs a directory",
    "ADD of several sources needs a directory",
    "the syntax image",
];

const KEYWORDS: [&str; 18] = [
    "add",
    "arg",
    "cmd",
    "copy",
    "entrypoint",
    "env",
    "expose",
    "from",
    "healthcheck",
    "label",
    "maintainer",
    "onbuild",
    "run",
    "shell",
    "stopsignal",
    "user",
    "volume",
    "workdir",
];

/// What dunnage makes of a file, in the goldens' form.
struct Found {
    verdict: &'static str,
    messages: Vec<String>,
    nodes: Value,
    escape: char,
    stages: Option<Value>,
    plan: Option<(Value, Value)>,
}

fn read(source: &Source) -> Found {
    let syntax = grammar::syntax(source);
    let parsed = grammar::parse(source);
    let mut found = Found {
        verdict: "parse-error",
        messages: Vec::new(),
        nodes: Value::Array(syntax.nodes.iter().map(node).collect()),
        escape: syntax.escape,
        stages: None,
        plan: None,
    };
    let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    found.messages = errors.map(|diagnostic| diagnostic.message.clone()).collect();
    if !found.messages.is_empty() {
        return found;
    }
    found.stages = Some(stages(&parsed.dockerfile));
    match plan(&parsed.dockerfile) {
        Ok(plan) => {
            found.verdict = "parse-ok";
            found.plan = Some(plan);
        }
        Err(error) => {
            found.verdict = "convert-error";
            found.messages = vec![error.to_string()];
        }
    }
    found
}

fn stages(dockerfile: &Dockerfile) -> Value {
    let stage = |stage: &grammar::Stage| {
        let name = stage.name.clone().unwrap_or_else(|| format!("#{}", stage.index));
        format!("{name}<-{}", stage.base.raw())
    };
    dockerfile.stages.iter().map(stage).collect()
}

/// Configuration and history over such bases.
fn plan(dockerfile: &Dockerfile) -> Result<(Value, Value), builder::Error> {
    let (options, images) = bases(dockerfile);
    let plan = builder::plan(dockerfile, &options, &images)?;
    let line = |(text, layer): (&str, bool)| format!("{} {text}", if layer { "L" } else { "-" });
    Ok((serde_json::to_value(plan.run_config()).unwrap(), plan.history().map(line).collect()))
}

fn node(node: &Node) -> Value {
    let mut out = json!({"cmd": node.keyword.text.to_lowercase()});
    out["start"] = json!(node.lines.0);
    out["end"] = json!(node.lines.1);
    if !node.flags.is_empty() {
        let flag = |flag: &grammar::Flag| match &flag.value {
            Some(value) => format!("--{}={value}", flag.name),
            None => format!("--{}", flag.name),
        };
        out["flags"] = node.flags.iter().map(flag).collect();
    }
    arguments(&node.arguments, &mut out);
    if !node.heredocs.is_empty() {
        let heredoc = |heredoc: &grammar::Heredoc| {
            let mut out = json!({"name": heredoc.name, "content": heredoc.content});
            for (key, on) in [("expand", heredoc.expand), ("chomp", heredoc.chomp)] {
                out[key] = json!(on);
            }
            out
        };
        out["heredocs"] = node.heredocs.iter().map(heredoc).collect();
    }
    out
}

fn arguments(arguments: &Arguments, out: &mut Value) {
    let words: Vec<String> = match arguments {
        // BuildKit keeps nothing of what follows a keyword that it does not know.
        _ if !KEYWORDS.contains(&out["cmd"].as_str().unwrap_or_default()) => vec![String::new()],
        Arguments::None => Vec::new(),
        Arguments::Text(piece) => vec![piece.text.clone()],
        Arguments::List(pieces) => pieces.iter().map(|piece| piece.text.clone()).collect(),
        Arguments::Json(values, _) => {
            out["json"] = json!(true);
            values.clone()
        }
        Arguments::Pairs(pairs) if out["cmd"] == "arg" => {
            let word = |pair: &grammar::Pair| match pair.equals {
                true => format!("{}={}", pair.key.text, pair.value.text),
                false => pair.key.text.clone(),
            };
            pairs.iter().map(word).collect()
        }
        Arguments::Pairs(pairs) => {
            let pair = |pair: &grammar::Pair| {
                [pair.key.text.clone(), pair.value.text.clone(), (if pair.equals { "=" } else { "" }).to_owned()]
            };
            pairs.iter().flat_map(pair).collect()
        }
        Arguments::Probe(kind, probe) => {
            let mut inner = json!({"cmd": "cmd"});
            self::arguments(probe, &mut inner);
            if inner["json"] == json!(true) {
                out["json"] = json!(true);
            }
            let rest = inner["args"].as_array().cloned().unwrap_or_default();
            let rest = rest.iter().map(|value| value.as_str().unwrap_or_default().to_owned());
            std::iter::once(kind.text.to_uppercase()).chain(rest).collect()
        }
        Arguments::Trigger(inner, _) => {
            out["sub"] = node(inner);
            out["sub"]["start"] = json!(0);
            out["sub"]["end"] = json!(0);
            return;
        }
    };
    if !words.is_empty() {
        out["args"] = json!(words);
    }
}

/// Each part that the golden has. What it lacks is what BuildKit does not come to: all behind its mistake.
fn differences(name: &str, found: &Found, golden: &Value, expect: &str, tally: &mut Tally) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, ours: &Value, theirs: &Value| {
        if ours != theirs {
            wrong.push(format!("{name}: {what}\n  ours   {ours}\n  theirs {theirs}"));
        }
    };
    let sentences = found.messages.iter().map(String::as_str).chain(golden["error"].as_str());
    let better = sentences.into_iter().any(|text| BETTER.iter().any(|known| text.starts_with(known)));
    if found.verdict != expect && better {
        tally.better.push(name.to_owned());
    } else if found.verdict != expect {
        compare(&format!("verdict ({:?})", found.messages), &json!(found.verdict), &json!([expect, golden["error"]]));
    }
    if let Some(theirs) = golden["nodes"].as_array() {
        tally.nodes += 1;
        compare("escape", &json!(found.escape.to_string()), &golden["escape"]);
        let ours = found.nodes.as_array().cloned().unwrap_or_default();
        compare("number of nodes", &json!(ours.len()), &json!(theirs.len()));
        for (ours, theirs) in ours.iter().zip(theirs) {
            compare("node", ours, theirs);
        }
    }
    if golden["stages"].is_array() && !(found.stages.is_none() && better) {
        tally.stages += 1;
        compare("stages", &json!(found.stages), &golden["stages"]);
    }
    if golden["config"].is_object() && !(found.plan.is_none() && better) {
        tally.plans += 1;
        let (config, history) = found.plan.clone().unwrap_or_default();
        compare("config", &config, &golden["config"]);
        compare("history", &history, &golden["history"]);
    }
    wrong
}

/// How many files had a part that was compared.
#[derive(Debug, Default)]
struct Tally {
    files: usize,
    nodes: usize,
    stages: usize,
    plans: usize,
    /// Whose verdict is another one on purpose.
    better: Vec<String>,
}

#[test]
fn corpus_files_mean_what_they_mean_to_buildkit() {
    let Some(folder) = corpus() else { return };
    let mut wrong = Vec::new();
    let rows = index(&folder);
    let mut tally = Tally::default();
    for (set, file, expect) in &rows {
        let (source, golden) = pair(&folder, set, file);
        let parts = ["nodes", "stages", "config", "history"].map(|part| !golden[part].is_null());
        // A golden that lost a part would compare less.
        assert!(expect != "parse-ok" || parts == [true; 4], "{file}: its golden lacks a part: {parts:?}");
        tally.files += 1;
        wrong.extend(differences(file, &read(&source), &golden, expect, &mut tally));
    }
    eprintln!("compared: {tally:?}");
    assert!(wrong.is_empty(), "{} differences in {} files:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
