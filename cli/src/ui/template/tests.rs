//! Templates as scripts have them; what they give was compared with docker's.
#![allow(clippy::unwrap_used)]

use super::*;
use serde_json::json;

fn rendered(template: &str) -> Result<String, String> {
    let value = json!({
        "Id": "sha256:abc", "Names": ["a", "b"], "N": 3, "Empty": [],
        "Config": {"Labels": {"k.x": "v", "k": "w"}, "User": "", "Entrypoint": null, "Env": ["A=1"]},
        "State": {"Status": "running", "Running": true},
        "Ports": {"80/tcp": [{"HostPort": "8080"}], "443/tcp": null},
        "Mounts": [{"Type": "bind", "Destination": "/a"}, {"Type": "volume", "Name": "v", "Destination": "/b"}],
        ".Label": {"k": "w"},
    });
    Template::parse(template)?.render(&value)
}

#[test]
fn what_scripts_use() {
    for (template, expected) in [
        ("{{.Id}}", "sha256:abc"),
        ("{{ .Config.Labels.k }}-{{.N}}", "w-3"),
        ("{{index .Config.Labels \"k.x\"}}", "v"),
        ("{{index .Names 1}}", "b"),
        ("{{json .Names}}", "[\"a\",\"b\"]"),
        ("{{.Names | json}}", "[\"a\",\"b\"]"),
        ("{{json .Config.Entrypoint}}", "null"),
        ("{{join .Names \", \"}}", "a, b"),
        ("{{range .Names}}<{{.}}>{{end}}", "<a><b>"),
        ("{{range $i, $n := .Names}}{{$i}}={{$n}} {{end}}", "0=a 1=b "),
        (
            "{{range $p, $c := .Ports}}{{$p}}:{{with $c}}{{(index . 0).HostPort}}{{else}}-{{end}} {{end}}",
            "443/tcp:- 80/tcp:8080 ",
        ),
        ("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080"),
        ("{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}};{{end}}", "bind  /a;volume v /b;"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Names}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{range .Names}}{{.}}{{break}}{{end}}", "a"),
        ("{{if .Config.User}}user{{else}}root{{end}}", "root"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
        ("{{if eq .N 2}}two{{else if eq .N 3}}three{{else}}many{{end}}", "three"),
        ("{{if and .State.Running (gt .N 2)}}yes{{end}}", "yes"),
        ("{{or .Config.User \"root\"}}", "root"),
        ("{{if and .State.Health .State.Health.Status}}x{{end}}", ""),
        ("{{with .State}}{{.Status}} {{$.N}}{{end}}", "running 3"),
        ("{{with $x := .N}}{{$x}}{{end}}", "3"),
        ("{{$x := .Id}}{{slice $x 7}}", "abc"),
        ("{{$x := 1}}{{range .Names}}{{$x = .}}{{end}}{{$x}}", "b"),
        ("{{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.WorkingDir}}|", "[] [] |"),
        ("{{.State.Health}}", "<nil>"),
        ("{{.Label \"k\"}}{{.Label \"none\"}}", "w"),
        ("{{len .Names}} {{len .Id}}", "2 10"),
        ("{{upper (index .Names 0)}} {{title .State.Status}}", "A Running"),
        ("{{truncate .Id 6}}|{{pad .N 1 2}}|{{split .Id \":\"}}", "sha256| 3  |[sha256 abc]"),
        ("a {{- .N -}} b", "a3b"),
        ("{{/* nothing */}}", ""),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{index .Config.Labels \"none\"}}|{{with index .Config.Labels \"none\"}}x{{end}}", "|"),
        ("{{index .Ports \"81/tcp\"}}", "[]"),
        ("{{.ID}} {{.STATE.status}}", "sha256:abc running"),
        ("{{.Names}}", "[a b]"),
        ("{{println .N}}", "3\n"),
        ("{{printf \"%s:%d\" .Id .N}}", "sha256:abc:3"),
        ("{{.Id | printf \"%.6s|%12s|%-12s|\" \"abcdefghi\" .Id}}", "abcdef|  sha256:abc|sha256:abc  |"),
        ("{{printf \"%03d %q %t %x %5.1f\" .N \"a\" true 255 1.25}}", "003 \"a\" true ff   1.2"),
        ("{{print .N .N \"a\"}}", "3 3a"),
        ("{{not .State.Running}} {{ne .N 3}} {{ge .N 3}}", "false false true"),
    ] {
        match rendered(template) {
            Ok(text) => assert_eq!(text, expected, "{template}"),
            Err(error) => assert_eq!(expected, "error", "{template}: {error}"),
        }
    }
}

#[test]
fn fields_with_arguments_are_in_no_json() {
    let shown = rendered("{{json .}}{{.}}").unwrap();
    assert!(shown.contains("\"N\":3") && !shown.contains(".Label"), "{shown}");
}

#[test]
fn headings_are_left_as_they_are() {
    let template = Template::parse("{{truncate .ID 3}}\t{{json .Names}}\t{{.Label \"com.x.my-label\"}}").unwrap();
    let headings = json!({"ID": "CONTAINER ID", "Names": "NAMES"}).as_object().unwrap().clone();
    assert_eq!(template.heading(headings).unwrap(), "CONTAINER ID\tNAMES\tmy label");
}

#[test]
fn mistakes_are_named() {
    for (template, part) in [
        ("{{.Idd}}", "Idd"),
        ("{{.Config.Labels.K.x}}", "of what is not there"),
        ("{{.State.Statu}}", "did you mean .Status?"),
        ("{{.State.Health.Status}}", "not there"),
        ("{{.Id", "}}"),
        ("{{range .Names}}", "end"),
        ("{{if .N}}{{else nope}}{{end}}", "else nope"),
        ("{{nope .Id}}", "nope"),
        ("{{$x}}", "$x"),
        ("{{$x = 1}}", "$x"),
        ("{{end}}", "end"),
        ("{{\"x}}", "quote"),
        ("{{index .Names 7}}", "7"),
        ("{{slice .Id 99}}", "slice"),
        ("{{printf \"%y\" 1}}", "%y"),
        ("{{printf \"%99999d\" 1}}", "99999"),
        ("{{lt .N \"a\"}}", "compares"),
        ("{{.Config.Labels.k.x}}", "no fields"),
        ("{{define \"x\"}}{{end}}", "define"),
    ] {
        let error = rendered(template).unwrap_err();
        assert!(error.contains(part), "{template}: {error}");
    }
}
