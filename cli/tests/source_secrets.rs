//! Secrets that open sources: sent to the origin that they are for, to nobody else, and kept nowhere.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use testdata::{Dunnage, GitDaemon, Need, Ran, Reply, Server};

const TOKEN: &str = "canary-4711";
/// `x-access-token:canary-4711` in base64.
const BASIC: &str = "eC1hY2Nlc3MtdG9rZW46Y2FuYXJ5LTQ3MTE=";

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &[Need::Root, Need::Program("busybox"), Need::Program("git")])
}

fn build(dunnage: &Dunnage, add: &str, secret: &str) -> Ran {
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {add} /got/\nCMD cat /got/f\n"));
    let secret = format!("id={secret},env=LENT");
    dunnage
        .command(["build", "--no-cache", "-t", "app", "--secret", &secret, "context"])
        .env("LENT", TOKEN)
        .output()
        .unwrap()
        .into()
}

/// A server that gives files below a directory to whoever has the header.
fn locked(directory: &Path, header: &str) -> Server {
    let (directory, header) = (directory.to_owned(), header.to_owned());
    Server::start(move |asked| {
        if asked.headers.get("authorization") != Some(&header) {
            return Reply::status(401);
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        match std::fs::read(directory.join(path.trim_start_matches('/'))) {
            Ok(bytes) => Reply::ok(bytes),
            Err(_) => Reply::status(404),
        }
    })
}

/// Neither the store, records and logs included, nor what was shown holds it.
fn expect_nowhere(dunnage: &Dunnage, ran: &Ran) {
    for canary in [TOKEN, BASIC] {
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(canary), "{}", ran.stderr);
        let found = std::process::Command::new("grep").args(["-rla", canary]).arg(dunnage.root()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{canary} is in the store");
    }
}

#[test]
fn security_d09_a_repository_is_opened_by_the_token_of_its_host_alone() {
    let Some(dunnage) = dunnage() else { return };
    let daemon = GitDaemon::start();
    let repository = daemon.repository("r");
    repository.write("f", "behind a lock\n");
    repository.commit();
    repository.git(&["update-server-info"]);
    std::fs::rename(repository.path().join(".git"), repository.path().join("r.git")).unwrap();
    let server = locked(repository.path(), &format!("basic {BASIC}"));
    let url = server.url("/r.git");
    for secret in ["GIT_AUTH_TOKEN".to_owned(), format!("GIT_AUTH_TOKEN.127.0.0.1:{}", server.port())] {
        let ran = build(&dunnage, &url, &secret).ok();
        assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "behind a lock\n");
        expect_nowhere(&dunnage, &ran);
    }
    // Another host's token, and a URL with a user of its own, send none of ours.
    server.take();
    for (url, secret) in
        [(url.clone(), "GIT_AUTH_TOKEN.other.example"), (url.replace("127.0.0.1", "me@127.0.0.1"), "GIT_AUTH_TOKEN")]
    {
        build(&dunnage, &url, secret).fails(1, "git failed");
        let asked = server.take();
        let sent = |header: &String| header.contains(BASIC);
        assert!(!asked.is_empty() && !asked.iter().any(|asked| asked.headers.get("authorization").is_some_and(sent)));
    }
}

#[test]
fn security_d09_a_header_is_sent_as_it_is_and_goes_with_no_redirect_of_git() {
    let Some(dunnage) = dunnage() else { return };
    let other = Server::start(|_| Reply::status(404));
    let target = other.url("");
    let server = Server::start(move |asked| Reply::status(302).header("Location", format!("{target}{}", asked.path)));
    let ran = build(&dunnage, &server.url("/r.git"), "GIT_AUTH_HEADER.127.0.0.1").fails(1, "git failed");
    let asked = server.take();
    assert_eq!(asked.first().and_then(|asked| asked.headers.get("authorization")).map(String::as_str), Some(TOKEN));
    assert!(other.take().is_empty(), "it was followed");
    expect_nowhere(&dunnage, &ran);
}

#[test]
fn security_d07_a_url_is_opened_by_the_secret_of_its_host_and_no_other_server_sees_it() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("files/f", "behind a lock\n");
    let server = locked(&dunnage.dir("files"), &format!("Bearer {TOKEN}"));
    let ran = build(&dunnage, &server.url("/f"), "HTTP_AUTH_TOKEN_127.0.0.1").ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "behind a lock\n");
    expect_nowhere(&dunnage, &ran);
    build(&dunnage, &server.url("/f"), "HTTP_AUTH_TOKEN_other.example").fails(1, "401");
    let raw = locked(&dunnage.dir("files"), TOKEN);
    build(&dunnage, &raw.url("/f"), &format!("HTTP_AUTH_HEADER_127.0.0.1:{}", raw.port())).ok();
    // Another port is another origin.
    let open = Server::start(|_| Reply::ok("f"));
    let target = open.url("/f");
    let leads = Server::start(move |_| Reply::status(302).header("Location", target.clone()));
    build(&dunnage, &leads.url("/f"), "HTTP_AUTH_TOKEN_127.0.0.1").ok();
    assert!(leads.take().iter().all(|asked| asked.headers.contains_key("authorization")));
    let asked = open.take();
    assert!(!asked.is_empty() && !asked.iter().any(|asked| asked.headers.contains_key("authorization")), "{asked:?}");
}
