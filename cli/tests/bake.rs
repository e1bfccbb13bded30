//! `dunnage bake` as a user runs it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::io::Write;
use std::process::Stdio;

use testdata::{BASE, Dunnage};

const TOML: &str = r#"
[variable]
TAG = "v1"

[group]
default = ["app", "tool"]

[target.common]
context = "src"
args = { WHO = "common" }

[target.base]
inherits = ["common"]
tags = ["made/base"]

[target.app]
inherits = ["common"]
dockerfile = "app.Dockerfile"
contexts = { made = "target:base" }
tags = ["app:${TAG}"]
args = { WHO = "app" }

[target.tool]
inherits = ["common"]
target = "tool"
tags = ["tool:${TAG}"]
output = ["type=image", "type=local,dest=out"]
"#;

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write("dunnage.toml", TOML);
    dunnage.write(
        "src/Dockerfile",
        "FROM scratch AS tool\nCOPY tool /tool\nFROM base\nARG WHO\nRUN echo $WHO > /who\nCMD cat /who\n",
    );
    dunnage.write("src/app.Dockerfile", "FROM made\nARG WHO\nRUN echo $WHO >> /who\n");
    dunnage.write("src/tool", "tool\n");
    Some(dunnage)
}

#[test]
fn targets_are_built_with_what_they_stand_on_first() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["bake", "--set", "app.args.WHO=me"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app:v1"]).ok().stdout, "common\nme\n");
    assert_eq!(std::fs::read_to_string(dunnage.dir("out").join("tool")).unwrap(), "tool\n");
    let ids = |name: &str| dunnage.run(["inspect", "--format", "{{.Id}}", name]).ok().stdout;
    assert_ne!(ids("app:v1"), ids("tool:v1"));
    // The second time everything hits, and the environment names another tag.
    let again = dunnage.command(["bake", "app"]).env("TAG", "v2").output().unwrap();
    assert!(again.status.success());
    assert_eq!(dunnage.run(["run", "--rm", "app:v2"]).ok().stdout, "common\napp\n");
}

#[test]
fn print_and_list_build_nothing() {
    let Some(dunnage) = dunnage() else { return };
    let printed = dunnage.run(["bake", "--print"]).ok().stdout;
    let plan: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(plan["group"]["default"]["targets"], serde_json::json!(["app", "tool"]));
    assert_eq!(plan["target"]["app"]["args"]["WHO"], "app");
    assert_eq!(plan["target"]["base"]["tags"], serde_json::json!(["made/base"]));
    assert!(dunnage.run(["bake", "--list", "targets"]).ok().stdout.contains("group of app, tool"));
    assert!(dunnage.run(["bake", "--list", "variables"]).ok().stdout.contains("TAG"));
    dunnage.run(["inspect", "app:v1"]).fails(1, "app:v1");
}

#[test]
fn mistakes_are_told_before_anything_is_built() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.run(["bake", "ap"]).fails(2, "did you mean `app`");
    dunnage.run(["bake", "-f", "none.toml"]).fails(2, "none.toml");
    dunnage.run(["bake", "--set", "tool.output=type=loca"]).fails(2, "did you mean `local`");
    dunnage.run(["bake", "--set", "tool.cache-to=type=registry"]).fails(2, "type=registry needs ref=NAME");
    dunnage.run(["inspect", "made/base"]).fails(1, "made/base");
    std::fs::remove_file(dunnage.dir("").join("dunnage.toml")).unwrap();
    dunnage.run(["bake"]).fails(2, "looked for dunnage.toml");
    dunnage.write(
        "docker-bake.hcl",
        "target \"default\" {\n  context = \"src\"\n  target = \"tool\"\n  tags = [\"tool\"]\n}\n",
    );
    dunnage.run(["bake"]).ok();
    dunnage.run(["inspect", "tool"]).ok();
}

#[test]
fn targets_may_have_no_tag_no_file_and_every_flag_of_build() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("secret", "hidden");
    dunnage.write(
        "docker-bake.hcl",
        r#"
target "first" {
  dockerfile = "never"
  dockerfile-inline = "FROM base\nRUN echo first > /f"
  output = ["type=cacheonly"]
}
target "default" {
  contexts = { first = "target:first" }
  dockerfile-inline = <<EOT
FROM first
RUN --mount=type=secret,id=s cat /run/secrets/s >> /f
EOT
  secret = ["id=s,src=secret"]
  annotations = ["a=1"]
  attest = ["type=provenance,mode=max", "type=sbom"]
  cache-to = ["type=local,dest=cache,mode=max"]
  cache-from = ["type=local,src=cache"]
  output = ["type=oci,tar=false,dest=lay", "type=local,dest=files"]
}
"#,
    );
    dunnage.run(["bake", "--load", "-f", "docker-bake.hcl"]).ok();
    assert_eq!(std::fs::read_to_string(dunnage.dir("files").join("f")).unwrap(), "first\nhidden");
    assert!(dunnage.dir("cache").join("dunnage-cache").is_file());
    let index = std::fs::read_to_string(dunnage.dir("lay").join("index.json")).unwrap();
    assert!(index.contains("application/vnd.oci.image.index.v1+json"), "{index}");
    // A mistake in it is told with its line.
    dunnage.write("docker-bake.hcl", "target \"default\" {\n  dockerfile-inline = \"FROM base\\nRUM x\"\n}\n");
    dunnage.run(["bake", "-f", "docker-bake.hcl"]).fails(1, "dockerfile-inline:2");
}

/// Two targets that cannot end one after the other: each waits for what the other leaves in a cache that both have.
fn pair(dunnage: &Dunnage, a: &str, b: &str) {
    let meet = "--mount=type=cache,id=meet,target=/c";
    let wait =
        |name: &str| format!("for i in $(seq 600); do [ -e /c/{name} ] && break; sleep 0.1; done; [ -e /c/{name} ]");
    let target = |own: &str, other: &str, end: &str| {
        let file = format!("FROM base\nRUN echo shared > /s\nRUN {meet} touch /c/{own}; {} && {end}\n", wait(other));
        serde_json::json!({"context": "src", "dockerfile-inline": file, "tags": [format!("made/{own}")]})
    };
    let file = serde_json::json!({
        "group": {"default": {"targets": ["a", "b"]}},
        "target": {"a": target("a", "b", a), "b": target("b", "a", b)},
    });
    dunnage.write("docker-bake.json", file.to_string());
}

#[test]
fn targets_that_need_nothing_of_each_other_are_built_side_by_side() {
    let Some(dunnage) = dunnage() else { return };
    pair(&dunnage, "echo one", "echo two");
    let log = dunnage.run(["bake", "-f", "docker-bake.json", "--progress", "plain"]).ok().stderr;
    for part in ["[a stage-0 2/2] RUN", "[b stage-0 2/2] RUN", "a: image sha256:", "b: image sha256:"] {
        assert!(log.contains(part), "no {part} in {log}");
    }
    assert!(
        log.lines().all(|line| line.starts_with("a") || line.starts_with("b") || line.starts_with("note")),
        "{log}"
    );
    // What both have is done once.
    let ran = |line: &str| line.split("ran ").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    assert_eq!(log.lines().filter_map(ran).sum::<usize>(), 3, "{log}");
    let raw = dunnage.run(["bake", "-f", "docker-bake.json", "--progress", "rawjson"]).ok().stderr;
    for line in raw.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["target"] == "a" || event["target"] == "b", "{line}");
    }
}

#[test]
fn the_first_target_that_fails_stops_the_others_and_what_stands_on_it() {
    let Some(dunnage) = dunnage() else { return };
    pair(&dunnage, "exit 3", "sleep 600");
    let mut file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dunnage.dir("").join("docker-bake.json")).unwrap()).unwrap();
    file["target"]["c"] = serde_json::json!({"contexts": {"a": "target:a"}, "dockerfile-inline": "FROM a\nRUN true\n"});
    file["group"]["default"]["targets"] = serde_json::json!(["a", "b", "c"]);
    dunnage.write("docker-bake.json", file.to_string());
    let ran = dunnage.run(["bake", "-f", "docker-bake.json"]).fails(1, "exit code 3");
    for part in ["target a failed", "target b was stopped"] {
        assert!(ran.stderr.contains(part), "no {part} in {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("[c "), "{}", ran.stderr);
    assert!(dunnage.leftovers().is_empty());
}

const HCL: &str = r#"
variable "TAG" { default = "v1" }
function "named" {
  params = [name]
  result = ["${name}:${TAG}", notequal("v1", TAG) ? "${name}:new" : ""]
}
target "default" {
  name = "app-${item.who}"
  matrix = { item = [{ who = "me" }, { who = "you" }] }
  context = "${BAKE_CMD_CONTEXT}src"
  args = { WHO = upper(item.who) }
  tags = named("app-${item.who}")
  platforms = [BAKE_LOCAL_PLATFORM]
}
target "inline" {
  dockerfile-inline = "FROM base\nCOPPY a b\n"
}
"#;

#[test]
fn a_file_of_buildx_with_functions_is_built_and_told_of() {
    let Some(dunnage) = dunnage() else { return };
    std::fs::remove_file(dunnage.dir("src").parent().unwrap().join("dunnage.toml")).unwrap();
    dunnage.write("docker-bake.hcl", HCL);
    dunnage.run(["bake", "--metadata-file", "built.json", "--provenance=false", "--allow", "fs.read=/tmp,ssh"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app-me:v1"]).ok().stdout, "ME\n");
    let file = dunnage.dir("src").parent().unwrap().join("built.json");
    let built: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(built["app-you"]["image.name"], "app-you:v1", "{built}");
    assert_eq!(built["app-me"]["containerimage.config.digest"], dunnage.image_id("app-me:v1").trim());
    // A variable of the command line is before the environment's, and must be one.
    let printed = dunnage.command(["bake", "--print", "--var", "TAG=v3", "app-me"]).env("TAG", "v2").output().unwrap();
    let printed: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed["target"]["app-me"]["tags"], serde_json::json!(["app-me:v3", "app-me:new"]));
    assert_eq!(printed["target"]["app-me"]["dockerfile"], "Dockerfile");
    dunnage.run(["bake", "--var", "NOPE=1"]).fails(2, "--var NOPE: no file has this variable");
    let listed = dunnage.run(["bake", "--list", "type=variables,format=json"]).ok().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["value"]), (&"TAG".into(), &"v1".into()));
    // Questions are asked of each target, and of a text that is in no file.
    let outline = dunnage.run(["bake", "--call", "outline", "app-me"]).ok().stdout;
    assert!(outline.contains("WHO"), "{outline}");
    let checked = dunnage.run(["bake", "--check", "inline"]).fails_with(1).stdout;
    assert!(checked.contains("unknown instruction: COPPY"), "{checked}");
    dunnage.run(["bake", "--check", "--call", "check"]).fails(2, "--call");
    dunnage
        .run(["bake", "--metadata-file", "/nowhere/x", "app-me"])
        .fails(2, "cannot write --metadata-file /nowhere/x");
}

#[test]
fn the_project_file_may_be_on_standard_input() {
    let Some(dunnage) = dunnage() else { return };
    for text in [r#"{"target": {"default": {"tags": ["in:json"]}}}"#, "target \"default\" { tags = [\"in:hcl\"] }"] {
        let mut command = dunnage.command(["bake", "-f", "-", "--print"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("\"in:"), "{text}");
    }
}

#[test]
fn what_was_chosen_is_pushed() {
    let Some(dunnage) = dunnage() else { return };
    // A port that nobody serves: the push begins, and it is that of the target that was asked for.
    let set = ["--set", "app.tags=127.0.0.1:9/app:1", "--push", "app"];
    let ran = dunnage.run([&["bake"][..], &set].concat());
    assert!(
        ran.code != 0 && ran.stderr.contains("127.0.0.1:9/app") && !ran.stderr.contains("made/base:latest to"),
        "{}",
        ran.stderr
    );
    dunnage
        .run(["bake", "--push", "--set", "tool.tags=", "tool"])
        .fails(2, "target `tool`: --push needs a name to push under");
}
