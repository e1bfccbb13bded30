//! Project files of all three formats, and what they come to.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

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
        (BakeFormat::Hcl, "function \"f\" { params = [] }", &[], &[], "needs a `result`"),
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

const FUNCTIONS: &str = r#"
variable "TAG" { default = "v1" }
function "image" {
  params = [name]
  variadic_params = parts
  result = "reg.example/${name}:${TAG}${join("", [for part in parts : "-${part}"])}"
}
function "both" {
  params = [part]
  result = [image(part), image(part, "x", upper(part))]
}
target "a" {
  tags = both("a")
  args = { N = "${add(1, 2)}", EACH = join(",", [for part in ["p", "q"] : image(part, part)]) }
  platforms = [BAKE_LOCAL_PLATFORM]
  cache-from = [notequal("v1", TAG) ? "other" : "", null]
  ssh = ["plain", { id = "default" }, { id = "other", paths = ["/socket"] }]
}
"#;

#[test]
fn functions_of_a_files_own() {
    let project = project(BakeFormat::Hcl, FUNCTIONS, &[]).unwrap();
    let a = &project.targets()["a"];
    assert_eq!(a.tags, ["reg.example/a:v1", "reg.example/a:v1-x-A"]);
    assert_eq!(a.args["N"].as_deref(), Some("3"));
    // A name that the function binds itself is none of the caller's.
    assert_eq!(a.args["EACH"].as_deref(), Some("reg.example/p:v1-p,reg.example/q:v1-q"));
    assert_eq!(a.platforms, [cache::Platform::host().to_string()]);
    assert!(a.cache_from.is_empty(), "{:?}", a.cache_from);
    assert_eq!(a.ssh.iter().map(|agent| agent.0.as_str()).collect::<Vec<_>>(), ["plain", "default", "other=/socket"]);
}

#[test]
fn json_has_functions_too() {
    let text = r#"{"function": {"f": {"params": ["a"], "variadic_params": "b", "result": "${a}${join(\"\", b)}"}},
        "target": {"t": {"tags": ["${f(\"x\", \"y\", \"z\")}"]}}}"#;
    assert_eq!(project(BakeFormat::Json, text, &[]).unwrap().targets()["t"].tags, ["xyz"]);
}

#[test]
fn functions_are_bounded() {
    let call = "target \"t\" { tags = [f(\"x\")] }\n";
    let doubling: String = (0..40)
        .map(|at| format!("function \"f{at}\" {{\n params = [a]\n result = \"${{f{}(a + a)}}\"\n}}\n", at + 1))
        .collect();
    for (text, expected) in [
        ("function \"f\" {\n params = [a]\n result = f(a)\n}\n".to_owned() + call, "deeper than 50"),
        (
            doubling + "function \"f40\" {\n params = [a]\n result = a\n}\ntarget \"t\" { tags = [f0(1)] }\n",
            "more than 100000",
        ),
        ("function \"f\" {\n params = [a, b]\n result = a\n}\n".to_owned() + call, "takes 2 arguments, not 1"),
        ("function \"f\" {\n params = [1]\n result = 1\n}\n".to_owned() + call, "no name of a parameter"),
        ("function \"f\" {\n parms = [a]\n result = 1\n}\n".to_owned() + call, "it has no `parms`"),
        ("function \"f\" {\n params = [a]\n result = nope(a)\n}\n".to_owned() + call, "nope"),
    ] {
        let found = project(BakeFormat::Hcl, &text, &[]).unwrap_err().to_string();
        assert!(found.contains(expected), "{text}\n{found}");
    }
}

#[test]
fn what_the_further_functions_give() {
    for (expression, expected) in [
        ("add(1, 2.5)", "3.5"),
        ("divide(6, 3)", "2"),
        ("max(1, 3, 2)", "3"),
        ("parseint(\"ff\", 16)", "255"),
        ("base64decode(base64encode(\"a b\"))", "a b"),
        ("sha256(\"\")", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("urlencode(\"a b/ä\")", "a+b%2F%C3%A4"),
        ("jsonencode({a = [1]})", "{\"a\":[1]}"),
        ("jsondecode(\"[1,2]\")[1]", "2"),
        ("basename(\"/a/b.c\")", "b.c"),
        ("dirname(\"a/b/c\")", "a/b"),
        ("join(\",\", compact([\"a\", \"\", null, \"b\"]))", "a,b"),
        ("join(\",\", flatten([[\"a\"], [[\"b\"]]]))", "a,b"),
        ("element([\"a\", \"b\"], 3)", "b"),
        ("join(\",\", slice([\"a\", \"b\", \"c\"], 1, 3))", "b,c"),
        ("join(\",\", sort([\"b\", \"a\"]))", "a,b"),
        ("join(\",\", range(1, 4))", "1,2,3"),
        ("zipmap([\"a\"], [\"b\"]).a", "b"),
        ("regex(\"[0-9]+\", \"v12.3\")", "12"),
        ("regex(\"v(?P<major>[0-9]+)\", \"v12.3\").major", "12"),
        ("length(regexall(\"[0-9]+\", \"v12.3\"))", "2"),
        ("regex_replace(\"v1.2\", \"[^0-9]\", \"\")", "12"),
        ("formatdate(\"YYYY-MM-DD'T'hh:mm:ssZ\", \"2026-01-02T03:04:05Z\")", "2026-01-02T03:04:05Z"),
        ("formatdate(\"EEE D MMM YY\", \"2026-01-02T03:04:05Z\")", "Fri 2 Jan 26"),
        ("join(\",\", formatlist(\"%s:%s\", \"a\", [\"x\", \"y\"]))", "a:x,a:y"),
        ("substr(timestamp(), 0, 2)", "20"),
    ] {
        let text = format!("target \"t\" {{ args = {{ A = {expression} }} }}\n");
        let project = project(BakeFormat::Hcl, &text, &[]).unwrap_or_else(|error| panic!("{expression}: {error}"));
        assert_eq!(project.targets()["t"].args["A"].as_deref(), Some(expected), "{expression}");
    }
    for (expression, expected) in [
        ("divide(1, 0)", "zero"),
        ("range(100000)", "10000"),
        ("regex(\"(\", \"\")", "pattern"),
        ("formatdate(\"Q\", timestamp())", "`Q`"),
        ("element([], 1)", "empty"),
    ] {
        let text = format!("target \"t\" {{ args = {{ A = {expression} }} }}\n");
        let found = project(BakeFormat::Hcl, &text, &[]).unwrap_err().to_string();
        assert!(found.contains(expected), "{expression}: {found}");
    }
}
