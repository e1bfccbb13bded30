//! A corpus of public Dockerfiles, each with what BuildKit makes of it: verdict, nodes, stages, configuration, history.
//!
//! The folder is `DUNNAGE_CORPUS`, or `shared/corpus` beside the project's. `index.tsv` names the files; `SET/NAME`
//! is a text, `SET-golden/NAME.json` its golden.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stderr)]

use std::path::{Path, PathBuf};

use cache::Platform;
use dunnage_builder::{BaseImages, Options};
use grammar::{Arguments, Chmod, Dockerfile, GitSource, IgnoreRules, Node, Severity, Source, Span, Word};
use serde_json::{Value, json};

/// Where dunnage does better than BuildKit: `--from=$ARG` works with a global ARG (docs/dockerfile.md).
const BETTER: [&str; 1] = ["029-buildah-bud-multi-stage-builds-Dockerfile.arg-in-copy"];

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

/// The folder, when it is there.
fn corpus() -> Option<PathBuf> {
    let beside = testdata::workspace().join("../shared/corpus");
    let folder = std::env::var_os("DUNNAGE_CORPUS").map_or(beside, PathBuf::from);
    if !folder.is_dir() {
        eprintln!("skipped: no corpus at {}", folder.display());
        return None;
    }
    Some(folder)
}

/// Name and expected verdict of each file of the index, with its set.
fn index(folder: &Path) -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string(folder.join("index.tsv")).expect("the corpus has an index");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| header.iter().position(|known| *known == name).expect("the index has the column");
    let (set, file, expect) = (column("set"), column("file"), column("expect"));
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('\t').collect();
        (cells[set].to_owned(), cells[file].to_owned(), cells[expect].to_owned())
    };
    let rows: Vec<_> = lines.filter(|line| !line.is_empty()).map(row).collect();
    assert!(!rows.is_empty(), "the corpus at {} is empty", folder.display());
    rows
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What dunnage makes of a file, in the goldens' form.
struct Found {
    verdict: &'static str,
    messages: Vec<String>,
    nodes: Value,
    escape: char,
    stages: Option<Value>,
    plan: Option<(Value, Value)>,
}

fn read(text: &str) -> Found {
    let source = Source::new("Dockerfile", text);
    let syntax = grammar::syntax(&source);
    let parsed = grammar::parse(&source);
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

/// Configuration and history over base images that hold a PATH and one line of history.
fn plan(dockerfile: &Dockerfile) -> Result<(Value, Value), dunnage_builder::Error> {
    let platform: Platform = "linux/amd64".parse().unwrap();
    let options = Options { platform: platform.clone(), build_platform: platform, ..Options::default() };
    let base = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", "0".repeat(64))]},
        "history": [{"created_by": "base"}],
    });
    let image = cache::Image::from_bytes(base.to_string().as_bytes()).unwrap();
    let bases = dunnage_builder::bases(dockerfile, &options)?;
    let images: BaseImages = bases.into_iter().map(|base| (base.reference, image.clone())).collect();
    let plan = dunnage_builder::plan(dockerfile, &options, &images)?;
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

/// Both values without what a golden leaves out, so that they compare.
fn differences(name: &str, found: &Found, golden: &Value, expect: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut compare = |what: &str, ours: &Value, theirs: &Value| {
        if ours != theirs {
            wrong.push(format!("{name}: {what}\n  ours   {ours}\n  theirs {theirs}"));
        }
    };
    if found.verdict != expect && !BETTER.contains(&name) {
        compare(&format!("verdict ({:?})", found.messages), &json!(found.verdict), &json!([expect, golden["error"]]));
    }
    if let Some(theirs) = golden["nodes"].as_array() {
        compare("escape", &json!(found.escape.to_string()), &golden["escape"]);
        let ours = found.nodes.as_array().cloned().unwrap_or_default();
        compare("number of nodes", &json!(ours.len()), &json!(theirs.len()));
        for (ours, theirs) in ours.iter().zip(theirs) {
            compare("node", ours, theirs);
        }
    }
    if let Some(stages) = found.stages.as_ref().filter(|_| golden["stages"].is_array()) {
        compare("stages", stages, &golden["stages"]);
    }
    if let Some((config, history)) = &found.plan
        && golden["config"].is_object()
    {
        compare("config", config, &golden["config"]);
        compare("history", history, &golden["history"]);
    }
    wrong
}

#[test]
fn corpus_files_mean_what_they_mean_to_buildkit() {
    let Some(folder) = corpus() else { return };
    let mut wrong = Vec::new();
    let rows = index(&folder);
    for (set, file, expect) in &rows {
        let bytes = std::fs::read(folder.join(set).join(file)).unwrap();
        let stem = file.strip_suffix(".Dockerfile").unwrap_or(file);
        let golden = read_json(&folder.join(format!("{set}-golden")).join(format!("{stem}.json")));
        let found = read(&String::from_utf8_lossy(&bytes));
        wrong.extend(differences(stem, &found, &golden, expect));
    }
    assert!(wrong.is_empty(), "{} differences in {} files:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

/// The rows of one table in every set.
fn table(name: &str) -> Option<Vec<Value>> {
    let folder = corpus()?;
    let mut sets: Vec<String> = index(&folder).into_iter().map(|(set, _, _)| set).collect();
    sets.dedup();
    let mut rows = Vec::new();
    for set in sets {
        let path = folder.join(format!("{set}-golden")).join(format!("table-{name}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
    }
    assert!(!rows.is_empty(), "the table {name} is empty");
    Some(rows)
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
}

struct Env(Vec<(String, String)>);

impl grammar::Scope for Env {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

#[test]
fn corpus_table_of_substitutions() {
    let Some(rows) = table("subst") else { return };
    let mut wrong = Vec::new();
    for row in rows {
        let input = &row["in"];
        let pairs = input["env"].as_array().cloned().unwrap_or_default();
        let pairs = pairs.iter().filter_map(|pair| pair.as_str()?.split_once('='));
        let env = Env(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
        let escape = input["esc"].as_str().and_then(|text| text.chars().next()).unwrap_or('\\');
        let word = Word::new(input["w"].as_str().unwrap(), escape, Span::default());
        let ours = match (word.expand(&env), word.expand_words(&env)) {
            (Ok(one), Ok((words, _))) => json!({"word": one.text, "words": words}),
            (one, words) => json!({"error": true, "ours": format!("{one:?} {words:?}")}),
        };
        let theirs_fail = row.get("error").is_some();
        let same = if theirs_fail {
            ours["error"] == json!(true)
        } else {
            let words = row.get("words").cloned().unwrap_or_else(|| json!([]));
            let words = if words.is_null() { json!([]) } else { words };
            ours["word"] == row["word"] && ours["words"] == words
        };
        if !same {
            wrong.push(format!("{row}\n  ours {ours}"));
        }
    }
    report(&wrong);
}

#[test]
fn corpus_table_of_ignore_rules() {
    let Some(rows) = table("ignore") else { return };
    let mut wrong = Vec::new();
    for row in rows {
        match IgnoreRules::parse(row["in"]["file"].as_str().unwrap()) {
            Err(error) if row.get("error").is_none() => wrong.push(format!("{row}\n  ours {error}")),
            Err(_) => {}
            Ok(_) if row.get("error").is_some() => wrong.push(format!("{row}\n  ours is no error")),
            Ok(rules) => {
                for (path, ignored) in row["ignored"].as_object().unwrap() {
                    if json!(rules.is_ignored(path)) != *ignored {
                        wrong.push(format!("{}: {path} should be {ignored}", row["in"]["file"]));
                    }
                }
            }
        }
    }
    report(&wrong);
}

#[test]
fn corpus_table_of_modes() {
    let Some(rows) = table("chmod") else { return };
    let mut wrong = Vec::new();
    for row in rows {
        let Ok(chmod) = Chmod::parse(row["in"]["m"].as_str().unwrap()) else {
            if row.get("error").is_none() {
                wrong.push(format!("{row}\n  ours is an error"));
            }
            continue;
        };
        for (key, mode, is_directory) in
            [("dir700", 0o700, true), ("dir755", 0o755, true), ("file644", 0o644, false), ("file755", 0o755, false)]
        {
            let ours = format!("{:04o}", chmod.apply(mode, is_directory));
            if json!(ours) != row[key] {
                wrong.push(format!("{row}\n  ours {key} {ours}"));
            }
        }
    }
    report(&wrong);
}

#[test]
fn corpus_table_of_git_sources() {
    let Some(rows) = table("gitref") else { return };
    let mut wrong = Vec::new();
    for row in rows {
        let text = row["in"]["u"].as_str().unwrap();
        let ours = match GitSource::parse(text) {
            None => json!({"is_git": false}),
            Some(Err(_)) => json!({"is_git": true}),
            Some(Ok(git)) => json!({"is_git": true, "ref": {
                "Checksum": git.checksum.clone().unwrap_or_default(),
                "FetchByCommit": false,
                "IndistinguishableFromLocal": text.starts_with("github.com/"),
                "KeepGitDir": git.keep_git_dir,
                "MTime": "",
                "Ref": git.reference.clone().unwrap_or_default(),
                "Remote": git.remote.clone(),
                "ShortName": git.name(),
                "SubDir": git.directory.clone().unwrap_or_default(),
                "Submodules": git.submodules,
                "UnencryptedTCP": !git.is_encrypted(),
            }}),
        };
        if ours["is_git"] != row["is_git"] || ours.get("ref") != row.get("ref") {
            wrong.push(format!("{row}\n  ours {ours}"));
        }
    }
    report(&wrong);
}
