//! Four tables: substitutions, ignore rules, modes, git sources.

use std::collections::BTreeSet;

use grammar::{Chmod, GitSource, IgnoreRules, Span, Word};
use serde_json::{Value, json};

use crate::{corpus, index};

/// The rows of one table in every set.
fn table(name: &str) -> Option<Vec<Value>> {
    let folder = corpus()?;
    let sets: BTreeSet<String> = index(&folder).into_iter().map(|(set, _, _)| set).collect();
    let mut rows = Vec::new();
    for set in sets {
        let path = folder.join(format!("{set}-golden")).join(format!("table-{name}.jsonl"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let before = rows.len();
        rows.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        assert!(rows.len() > before, "the table {name} of {set} is empty");
    }
    eprintln!("compared: {} rows of {name}", rows.len());
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
