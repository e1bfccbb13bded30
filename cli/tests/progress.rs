//! How progress is shown: four forms, foreign output in each, sections of build services, questions instead of builds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use testdata::{BASE, Dunnage, Need, skipped};

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)
}

/// OSC 52 writes the clipboard, CSI 2J clears, `\r` overwrites, and two build services take the last for commands.
const HOSTILE: &str = "printf '\\033]52;c;eA==\\007\\033[2Jshown\\033]0;t\\007\\nover\\rwritten\\n##vso[task.setvariable variable=v]x\\n::set-output name=a::b\\n'";

fn progress(dunnage: &Dunnage, mode: &str, file: &str) -> testdata::Ran {
    dunnage.write("context/Dockerfile", file);
    dunnage.run(["build", "--no-cache", "--progress", mode, "context"])
}

#[track_caller]
fn harmless(text: &str) {
    for bad in ["\u{1b}]", "\u{1b}[2J", "\u{7}", "##vso[", "\r"] {
        assert!(!text.contains(bad), "{bad:?} in:\n{text}");
    }
    assert!(text.lines().all(|line| !line.trim_start().starts_with("::")), "{text}");
}

#[test]
fn security_s18_hostile_output_is_harmless_in_plain_json_and_in_the_message_of_a_failure() {
    let Some(dunnage) = dunnage() else { return };
    let plain = progress(&dunnage, "plain", &format!("FROM base\nRUN {HOSTILE}\n")).ok().stderr;
    harmless(&plain);
    assert!(plain.contains("shown") && plain.contains("written") && plain.contains("## vso["), "{plain}");
    let json = progress(&dunnage, "rawjson", &format!("FROM base\nRUN {HOSTILE}\n")).ok().stderr;
    harmless(&json);
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let data: String =
        lines.iter().filter(|line| line["event"] == "output").map(|line| line["data"].as_str().unwrap()).collect();
    assert!(
        data.starts_with("\u{1b}]52;c;eA==\u{7}") && data.contains("##vso["),
        "a program gets the text as it was: {data:?}"
    );
    let failed =
        progress(&dunnage, "plain", &format!("FROM base\nRUN {HOSTILE}; exit 3\n")).fails(1, "exit code 3").stderr;
    harmless(&failed);
    let quiet =
        progress(&dunnage, "quiet", &format!("FROM base\nRUN {HOSTILE}; exit 3\n")).fails(1, "exit code 3").stderr;
    harmless(&quiet);
}

#[test]
fn security_s18_hostile_output_is_harmless_on_a_terminal() {
    let Some(dunnage) = dunnage() else { return };
    if skipped(&[Need::Program("script")]) {
        return;
    }
    dunnage.write("context/Dockerfile", format!("FROM base\nRUN {HOSTILE}; sleep 0.5\n"));
    let command = format!("{} build --progress tty context", env!("CARGO_BIN_EXE_dunnage"));
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("DUNNAGE_ROOT", dunnage.root()).env("TERM", "xterm");
    let output = script.current_dir(dunnage.dir(".")).stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    for bad in ["\u{1b}]52", "\u{1b}[2J", "\u{7}", "##vso["] {
        assert!(!text.contains(bad), "{bad:?} in:\n{text:?}");
    }
    assert!(text.contains("0 of 1 steps cached"), "{text}");
    assert!(text.contains("shown"), "the end of the log of a running step is in view: {text:?}");
}

#[test]
fn builder_o03_plain_lines_say_what_each_step_does_and_why() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "1");
    dunnage.write("context/Dockerfile", "FROM base AS one\nRUN echo hello\nCOPY f /f\n");
    dunnage.run(["build", "--progress", "plain", "context"]).ok();
    dunnage.write("context/f", "2");
    let log = dunnage.run(["build", "--progress", "plain", "context"]).ok().stderr;
    for part in [
        "#1 [one 1/2] RUN echo hello\n#1 CACHED\n",
        "#2 [one 2/2] COPY f /f\n#2 why: f changed\n#2 DONE ",
        "1 of 2 steps cached · ran 1 · ",
    ] {
        assert!(log.contains(part), "no {part:?} in:\n{log}");
    }
    let id = dunnage.run(["build", "-q", "context"]).ok();
    assert_eq!(id.stderr, "");
    assert!(id.stdout.starts_with("sha256:") && id.stdout.trim().len() == 71, "{}", id.stdout);
}

#[test]
fn builder_o03_every_json_line_has_a_version_and_the_documented_fields() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/f", "1");
    let file = "FROM base\nCOPY f /f\nRUN echo hello; exit 4\n";
    let log = progress(&dunnage, "rawjson", file).stderr;
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let events: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        ["build", "planned", "planned", "context", "started", "done", "started", "output", "failed", "error"]
    );
    let documented = std::fs::read_to_string(testdata::workspace().join("docs/events.md")).unwrap();
    for line in &lines {
        assert_eq!(line["v"], 1);
        assert!(documented.contains(&format!("### `{}`", line["event"].as_str().unwrap())), "{line} is not documented");
        for field in line.as_object().unwrap().keys() {
            assert!(documented.contains(&format!("`{field}`")), "{field} of {line} is not documented");
        }
    }
    let error = lines.last().unwrap();
    assert_eq!((&error["file"], &error["line"]), (&"context/Dockerfile".into(), &3.into()));
}

#[test]
fn steps_are_sections_of_the_logs_of_build_services() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base AS a\nRUN sleep 0.3; echo from-a > /a; echo from-a\nFROM base AS b\nRUN echo from-b; echo from-b > /b\nFROM base\nCOPY --from=a /a /\nCOPY --from=b /b /\n");
    let log = |name: &str| {
        let output = dunnage
            .command(["build", "--no-cache", "--progress", "plain", "context"])
            .env(name, "true")
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let github = log("GITHUB_ACTIONS");
    let mut open = false;
    for line in github.lines() {
        match (line.starts_with("::group::"), line == "::endgroup::") {
            (true, _) => assert!(!std::mem::replace(&mut open, true), "sections do not nest:\n{github}"),
            (_, true) => assert!(std::mem::take(&mut open), "{github}"),
            _ => {}
        }
    }
    assert!(!open && github.matches("::group::").count() == 4, "{github}");
    let inside = github.split("::group::").find(|part| part.contains("[b 1/1]")).unwrap();
    assert!(inside.contains("from-b") && !inside.contains("from-a >"), "{inside}");
    let gitlab = log("GITLAB_CI");
    assert_eq!(gitlab.matches("section_start:").count(), 4, "{gitlab}");
    assert_eq!(gitlab.matches("section_end:").count(), 4, "{gitlab}");
}

#[test]
fn colours_follow_no_color_and_clicolor_force() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN true\n");
    let coloured = |name: &str, args: &[&str]| {
        let mut all = vec!["build", "--progress", "plain", "context"];
        all.extend_from_slice(args);
        dunnage.command(all).env(name, "1").output().unwrap().stderr.contains(&0x1b)
    };
    assert!(!coloured("UNRELATED", &[]), "a pipe has no colours");
    assert!(coloured("CLICOLOR_FORCE", &[]));
    assert!(coloured("UNRELATED", &["--color", "always"]));
    assert!(!coloured("NO_COLOR", &[]));
    assert!(!coloured("CLICOLOR_FORCE", &["--color", "never"]));
}

const CALLED: &str = "# check=error=true
ARG TAG=1
# make the compiler stage
FROM base:$TAG AS make
# V version of it
ARG V=2
FROM scratch AS last
COPY --from=make /x /
";

#[test]
fn builder_o05_questions_are_answered_and_nothing_is_built() {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/Dockerfile", CALLED);
    let call = |method: &str| dunnage.run(["build", "--call", method, "context"]);
    let targets = call("targets").ok().stdout;
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&targets).contains("make base:$TAG the compiler stage last (default) scratch"), "{targets}");
    let outline = call("outline").ok().stdout;
    assert!(outline.contains("TARGET: last") && words(&outline).contains("V 2 version of it"), "{outline}");
    let json: Value = serde_json::from_str(&call("outline,format=json").ok().stdout).unwrap();
    assert_eq!((&json["name"], &json["args"][0]["name"]), (&"last".into(), &"TAG".into()));
    let json: Value = serde_json::from_str(&call("targets,format=json").ok().stdout).unwrap();
    assert_eq!(json["targets"][1]["default"], true);
    call("check").ok();
    dunnage.write("context/Dockerfile", "# check=error=true\nFROM scratch as last\nCOPY f /\n");
    call("check").fails_with(1);
    dunnage.run(["build", "--check", "context"]).fails_with(1);
    call("nonsense").fails(2, "is not a method");
    call("targets,format=xml").fails(2, "is not known");
    assert!(!dunnage.root().exists(), "no store is made for a question");
}
