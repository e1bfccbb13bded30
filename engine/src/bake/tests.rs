//! Project files of all three formats, and what they come to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn project(format: BakeFormat, text: &str, environment: &[(&str, &str)]) -> Result<Project> {
    let file = BakeFile { name: "file".to_owned(), format, text: text.to_owned() };
    let known: BTreeMap<&str, &str> = environment.iter().copied().collect();
    Project::read(&[file], &|name| known.get(name).map(|value| (*value).to_owned()))
}

fn plan(project: &Project, targets: &[&str], set: &[&str]) -> Result<BakePlan> {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    project.plan(&BakeChoice { targets: own(targets), set: own(set) })
}

const TOML: &str = r#"
[variable]
TAG = "latest"
DEBUG = false

[group]
default = ["app", "db"]

[target.base]
context = "."
args = { GO = 1.2, DEBUG = "${DEBUG}" }
labels = { who = "us" }

[target.app]
inherits = ["base"]
dockerfile = "app/Dockerfile"
tags = ["app:${TAG}"]
args = { GO = "2" }
output = [{ type = "local", dest = "a,b" }, "type=docker"]

[target.db]
inherits = ["base"]
tags = ["db:${upper(TAG)}"]
contexts = { app = "target:app" }
"#;

const HCL: &str = r#"
variable "TAG" { default = "latest" }
variable "DEBUG" {
  default = false
  validation {
    condition = DEBUG == false || TAG != "latest"
    error_message = "latest is never a debug build"
  }
}
group "default" { targets = ["app", "db"] }
target "base" {
  context = "."
  args = { GO = 1.2, DEBUG = "${DEBUG}" }
  labels = { who = "us" }
}
target "app" {
  inherits = ["base"]
  dockerfile = "app/Dockerfile"
  tags = ["app:${TAG}"]
  args = { GO = "2" }
  output = [{ type = "local", dest = "a,b" }, "type=docker"]
}
target "db" {
  inherits = ["base"]
  tags = ["db:${upper(TAG)}"]
  contexts = { app = "target:app" }
}
"#;

#[test]
fn all_formats_mean_the_same() {
    let toml: toml::Value = toml::from_str(TOML).unwrap();
    let json = serde_json::to_string(&toml).unwrap();
    let plans = [(BakeFormat::Toml, TOML), (BakeFormat::Json, json.as_str()), (BakeFormat::Hcl, HCL)]
        .map(|(format, text)| plan(&project(format, text, &[("TAG", "v2")]).unwrap(), &[], &[]).unwrap());
    let shown = serde_json::to_value(&plans[0]).unwrap();
    assert_eq!(shown, serde_json::to_value(&plans[1]).unwrap());
    assert_eq!(shown, serde_json::to_value(&plans[2]).unwrap());
    assert_eq!(plans[0].order, ["app", "db"]);
    let app = &plans[0].target["app"];
    assert_eq!(app.tags, ["app:v2"]);
    assert_eq!(app.args["GO"].as_deref(), Some("2"));
    assert_eq!(app.args["DEBUG"].as_deref(), Some("false"));
    assert_eq!(app.labels["who"].as_deref(), Some("us"));
    assert_eq!(app.output[0].0, r#"type=local,"dest=a,b""#);
    assert_eq!(plans[0].target["db"].tags, ["db:V2"]);
}

#[test]
fn a_matrix_makes_a_target_of_each_combination() {
    let text = r#"
target "app" {
  name = "app-${os}-${replace(version, ".", "-")}"
  matrix = { os = ["a", "b"], version = ["1.0", "2.0"] }
  args = { OS = os, V = version }
}
"#;
    let project = project(BakeFormat::Hcl, text, &[]).unwrap();
    let plan = plan(&project, &["app"], &[]).unwrap();
    assert_eq!(plan.order, ["app-a-1-0", "app-a-2-0", "app-b-1-0", "app-b-2-0"]);
    assert_eq!(plan.target["app-b-1-0"].args["OS"].as_deref(), Some("b"));
}

#[test]
fn the_command_line_wins() {
    let project = project(BakeFormat::Toml, TOML, &[]).unwrap();
    let set = [
        "*.args.GO=3",
        "app.tags=other",
        "app.tags+=second",
        "db.no-cache=true",
        "app.platform=linux/amd64,linux/arm64",
    ];
    let plan = plan(&project, &["app", "db"], &set).unwrap();
    assert_eq!(plan.target["app"].tags, ["other", "second"]);
    assert_eq!(plan.target["app"].platforms, ["linux/amd64", "linux/arm64"]);
    assert_eq!(plan.target["db"].args["GO"].as_deref(), Some("3"));
    assert_eq!(plan.target["db"].no_cache, Some(true));
}

#[test]
fn mistakes_are_named() {
    type Case = (BakeFormat, &'static str, &'static [&'static str], &'static [&'static str], &'static str);
    let cases: [Case; 14] = [
        (BakeFormat::Toml, "[target.a]\ncontxt = '.'", &[], &[], "contxt"),
        (BakeFormat::Toml, "[target.a]\ncontext = 3", &[], &[], "string"),
        (BakeFormat::Toml, "[targets.a]\ncontext = '.'", &[], &[], "did you mean `target`"),
        (BakeFormat::Toml, "[target.a\n", &[], &[], "line 1"),
        (BakeFormat::Toml, "[target.a]\ninherits = ['b']", &[], &[], "`b`, which is no target"),
        (
            BakeFormat::Toml,
            "[target.a]\ninherits = ['b']\n[target.b]\ninherits = ['a']",
            &[],
            &[],
            "inherits from itself: a → b → a",
        ),
        (BakeFormat::Toml, "[target.a]\ntags = ['${NO}']", &[], &[], "NO"),
        (BakeFormat::Toml, "[target.app]\n[target.db]", &[], &[], "name one of app, db"),
        (BakeFormat::Toml, "[target.app]", &["apq"], &[], "did you mean `app`"),
        (BakeFormat::Toml, "[target.app]", &[], &["ap.tags=x"], "did you mean `app`"),
        (BakeFormat::Toml, "[target.app]", &[], &["app.nothing=x"], "a target has no `nothing`"),
        (BakeFormat::Toml, "[target.app]\nmatrix = { a = ['1'] }", &[], &[], "needs a `name`"),
        (
            BakeFormat::Toml,
            "[target.a]\ncontexts = { x = 'target:b' }\n[target.b]\ncontexts = { x = 'target:a' }",
            &["a"],
            &[],
            "circle: a → b → a",
        ),
        (BakeFormat::Hcl, "function \"f\" { params = [] }", &[], &[], "functions of one's own"),
    ];
    for (format, text, targets, set, expected) in cases {
        let found =
            project(format, text, &[]).and_then(|project| plan(&project, targets, set)).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn variables_take_the_environments_value_in_their_own_type() {
    let found = project(BakeFormat::Hcl, HCL, &[("DEBUG", "maybe")]).unwrap_err().to_string();
    assert!(found.contains("true or false"), "{found}");
    let found = project(BakeFormat::Hcl, HCL, &[("DEBUG", "1")]).unwrap_err().to_string();
    assert!(found.contains("never a debug build"), "{found}");
    let project = project(BakeFormat::Hcl, HCL, &[("DEBUG", "1"), ("TAG", "x")]).unwrap();
    assert_eq!(project.targets()["app"].args["DEBUG"].as_deref(), Some("true"));
}
