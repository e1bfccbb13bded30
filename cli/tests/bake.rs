//! `dunnage bake` as a user runs it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need, skipped};

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
    if skipped(&[Need::Root, Need::Program("busybox")]) {
        return None;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
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
    dunnage.run(["bake", "--set", "tool.cache-to=type=registry"]).fails(2, "type=registry are not supported");
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
