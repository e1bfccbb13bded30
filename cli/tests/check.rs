//! `dunnage check` as a user, a script and a code scanner run it. It needs no root, no store and no image.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use serde_json::Value;
use testdata::{Dunnage, Ran};

fn dunnage(file: &str) -> Dunnage {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.write("context/Dockerfile", file);
    dunnage
}

const DOUBTFUL: &str = "FROM debian:12 AS Build\nENV OLD form\nCOPY $FO /x\nCMD [\"a\", 'b']\n";

fn codes(document: &str) -> Vec<String> {
    let document: Value = serde_json::from_str(document).unwrap();
    let findings = document["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_finding_has_place_reason_and_remedy() {
    let dunnage = dunnage(DOUBTFUL);
    let text = dunnage.run(["check", "context"]).ok().stdout;
    for part in [
        "warning[StageNameCasing]: Stage name 'Build' should be lowercase",
        "context/Dockerfile:1:19",
        "^^^^^",
        "note: stage names are compared in lower case",
        "help: write the name in lower case",
        "Usage of undefined variable '$FO'",
        "hint[BrokenJsonForm]",
        "Check complete: 4 warnings, 1 hint",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    assert!(!dunnage.root().exists(), "a check made a store");
}

#[test]
fn builder_p12_a_broken_json_form_is_a_shell_form_with_a_hint() {
    let dunnage = dunnage("FROM debian:12\nCMD [\"a\", 'b']\n");
    let found = codes(&dunnage.run(["check", "--format", "json", "context"]).ok().stdout);
    assert_eq!(found, ["JSONArgsRecommended", "BrokenJsonForm"]);
}

#[test]
fn warnings_fail_a_check_only_when_that_is_asked_for() {
    let dunnage = dunnage(DOUBTFUL);
    dunnage.run(["check", "context"]).ok();
    assert_eq!(dunnage.run(["check", "--error", "context"]).code, 1);
    dunnage.run(["check", "--error", "--skip", "all", "context"]).ok();
    dunnage.write("context/Dockerfile", format!("# check=error=true\n{DOUBTFUL}"));
    assert_eq!(dunnage.run(["check", "context"]).code, 1);
    assert_eq!(dunnage.run(["build", "--check", "context"]).code, 1);
    let skip = "# check=skip=StageNameCasing,LegacyKeyValueFormat,UndefinedVar,JSONArgsRecommended;error=true";
    dunnage.write("context/Dockerfile", format!("{skip}\n{DOUBTFUL}"));
    let found = codes(&dunnage.run(["check", "--format", "json", "context"]).ok().stdout);
    assert_eq!(found, ["BrokenJsonForm"]);
}

#[test]
fn several_mistakes_are_found_in_one_run() {
    let dunnage = dunnage("FROM scratch\nCOYP a b\nCOPY --form=x a b\nENV A=1 B 2\nRUN <<E\nx\n");
    let ran = dunnage.run(["check", "context"]);
    assert_eq!(ran.code, 1);
    for part in
        ["did you mean `COPY`?", "did you mean `--from`?", "can't find = in \"B\"", "unterminated heredoc", "4 errors"]
    {
        assert!(ran.stdout.contains(part), "no {part:?} in\n{}", ran.stdout);
    }
    dunnage.write("context/Dockerfile", "FORM x\nRUN y\n");
    // What follows from the first mistake is not told as a second one.
    assert!(dunnage.run(["check", "context"]).stdout.contains("1 error"));
}

#[test]
fn stages_that_the_last_one_does_not_need_are_looked_at_too() {
    let dunnage = dunnage("FROM debian:12 AS other\nCOPY --from=9 a b\nFROM debian:12\nWORKDIR rel\n");
    let ran = dunnage.run(["check", "context"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("invalid stage index 9"), "{}", ran.stdout);
    dunnage.write("context/Dockerfile", "FROM debian:12 AS other\nCOPY $FO /x\nFROM debian:12\nWORKDIR rel\n");
    let found = codes(&dunnage.run(["check", "--format", "json", "context"]).ok().stdout);
    assert_eq!(found, ["UndefinedVar", "WorkdirRelativePath"]);
}

#[test]
fn an_ignored_source_is_told() {
    let dunnage = dunnage("FROM debian:12\nCOPY secret.txt kept.txt /x/\n");
    dunnage.write("context/.dockerignore", "*.txt\n!kept.txt\n");
    let ran = dunnage.run(["check", "context"]).ok();
    assert!(ran.stdout.contains("Attempting to COPY file \"secret.txt\" that is excluded by .dockerignore"));
    assert!(!ran.stdout.contains("kept.txt\" that"));
}

#[test]
fn json_and_sarif_say_the_same() {
    let dunnage = dunnage(DOUBTFUL);
    let json: Value = serde_json::from_str(&dunnage.run(["check", "--format", "json", "context"]).ok().stdout).unwrap();
    let sarif: Value =
        serde_json::from_str(&dunnage.run(["check", "--format", "sarif", "context"]).ok().stdout).unwrap();
    assert_eq!((&json["warnings"], &json["hints"]), (&Value::from(4), &Value::from(1)));
    let run = &sarif["runs"][0];
    assert_eq!((&sarif["version"], &run["tool"]["driver"]["name"]), (&Value::from("2.1.0"), &Value::from("dunnage")));
    let results = run["results"].as_array().unwrap();
    for (finding, result) in json["findings"].as_array().unwrap().iter().zip(results) {
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!((&finding["rule"], &finding["line"]), (&result["ruleId"], &region["startLine"]));
    }
    assert_eq!(results.len(), 5);
}

#[test]
fn the_file_may_come_from_standard_input() {
    let dunnage = dunnage("FROM scratch\n");
    let file = std::fs::File::open(dunnage.write("given", "FROM scratch\nCOYP a b\n")).unwrap();
    let ran = Ran::from(dunnage.command(["check", "-f", "-", "context"]).stdin(file).output().unwrap());
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("stdin:2:1") && ran.stdout.contains("did you mean `COPY`?"), "{}", ran.stdout);
}

#[test]
fn nasty_files_are_shown_as_they_are() {
    let long = format!("FROM debian:12\nENV A={} B\n", "x".repeat(1 << 20));
    let utf16: Vec<u8> = "\u{feff}FROM scratch\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, parts) in [
        (b"".as_slice(), ["context/Dockerfile:1:1", "the Dockerfile has no instructions"]),
        (b"FROM debian:12\r\n\tCOYP\ta b\r\n", ["context/Dockerfile:2:2", "2 |     COYP    a b\n  |     ^^^^\n"]),
        (b"FROM debian:12\nLABEL a=caf\xe9\n", ["context/Dockerfile:2:12", "InvalidBytes"]),
        (utf16.as_slice(), ["it looks like UTF-16: save it as UTF-8", "Check complete: 1 error"]),
        (b"FROM debian:12\nRUN cat <<E\nx\n E\n", ["context/Dockerfile:2:9", "line 4 has blanks beside `E`"]),
        (b"# escpae=`\nFROM debian:12\n", ["DirectiveWithoutEffect", "did you mean `# escape=``?"]),
        (long.as_bytes(), ["context/Dockerfile:2:1048584", "can't find = in \"B\""]),
    ] {
        let dunnage = dunnage("");
        dunnage.write("context/Dockerfile", bytes);
        let shown = dunnage.run(["check", "context"]).stdout;
        assert!(parts.iter().all(|part| shown.contains(part)), "no {parts:?} in\n{shown}");
        // Nobody reads a line of a megabyte.
        assert!(shown.len() < 4096, "{} bytes are shown", shown.len());
        for format in ["json", "sarif"] {
            let shown = dunnage.run(["check", "--format", format, "context"]).stdout;
            assert!(serde_json::from_str::<Value>(&shown).is_ok(), "{shown}");
        }
    }
}

#[test]
fn what_cannot_be_checked_says_why() {
    let dunnage = dunnage("FROM scratch\n");
    dunnage.run(["check", "--skip", "UndefinedVars", "context"]).fails(2, "did you mean UndefinedVar?");
    dunnage.run(["check", "-f", "nothing", "context"]).fails(1, "nothing");
    dunnage.write("context/Dockerfile", "# check=skipp=all\nFROM scratch\n");
    assert_eq!(dunnage.run(["check", "context"]).code, 1);
    let rules = dunnage.run(["check", "--rules"]).ok().stdout;
    assert!(rules.contains("InvalidDefinitionDescription (experimental)") && rules.contains("    fix: "));
}
