//! `dunnage registry serve` and clients that are slow, huge, wrong, many, or gone; and a server that dies.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use testdata::archive::sha256;
use testdata::{Dunnage, Need, Random, Served, heard, skipped, until};

fn served() -> (Dunnage, Served) {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let served = Served::start(&dunnage, &[]);
    (dunnage, served)
}

fn blobs(dunnage: &Dunnage) -> Vec<String> {
    let files = testdata::files(&dunnage.root().join("registry/blobs"), "");
    files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn bytes(count: usize) -> Vec<u8> {
    let mut random = Random::new();
    (0..count).map(|_| random.below(256) as u8).collect()
}

#[test]
fn security_r19_names_do_not_lead_out_of_the_store() {
    let (dunnage, served) = served();
    let before = std::fs::read(dunnage.root().join("format")).unwrap();
    for path in [
        "/v2/../../etc/passwd",
        "/v2/..%2f..%2fformat/manifests/1",
        "/v2/a/blobs/uploads/..%2f..%2f..%2fformat",
        "/v2/a/blobs/uploads/%2e%2e",
        "/v2/a/manifests/..%2f..%2fx",
        "/v2/a/blobs/sha256:..%2f..%2f..%2fformat",
        "/v2/a%00/tags/list",
        "/v2/%ff/tags/list",
    ] {
        for method in ["GET", "PUT", "PATCH", "DELETE"] {
            let status = served.ask(method, path, &[], b"x").status;
            assert!((400..500).contains(&status), "{method} {path}: {status}");
        }
    }
    let long = format!("/v2/{}/tags/list", "a".repeat(300));
    served.get(&long).refuses(400, "NAME_INVALID");
    served.get(&format!("/v2/{}", "a/".repeat(5000))).is(414);
    assert_eq!(std::fs::read(dunnage.root().join("format")).unwrap(), before);
    assert!(!dunnage.root().join("registry/repositories").exists());
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let (_dunnage, served) = served();
    let mut many = String::from("GET /v2/ HTTP/1.1\r\nHost: x\r\n");
    (0..100).for_each(|number| many.push_str(&format!("X-{number}: y\r\n")));
    many.push_str("\r\n");
    let huge = format!("GET /v2/ HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    for (request, status) in [
        (many.as_str(), 431),
        (&huge, 431),
        ("nonsense\r\n\r\n", 400),
        ("GET /v2/ HTTP/9.9\r\n\r\n", 400),
        ("POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    ] {
        let mut stream = served.connect();
        let _ = stream.write_all(request.as_bytes());
        assert_eq!(heard(stream).status, status, "{}", &request[..40.min(request.len())]);
    }
    // A body that ends early, and one that never begins, cost their connection only.
    let mut stream = served.connect();
    stream
        .write_all(b"POST /v2/a/blobs/uploads/?digest=sha256:0 HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nxy")
        .unwrap();
    drop(stream);
    served.get("/v2/").is(200);
    assert!(!served.log().contains("defect"), "{}", served.log());
}

#[test]
fn connections_that_say_nothing_do_not_keep_others_out() {
    let (_dunnage, served) = served();
    let idle: Vec<_> = (0..200).map(|_| served.connect()).collect();
    let mut half = served.connect();
    half.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ").unwrap();
    served.get("/v2/").is(200);
    drop(idle);
    served.get("/v2/").is(200);
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let (dunnage, served) = served();
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let end = format!("{}?digest={}", begun.location(), sha256(b"right"));
    served.ask("PUT", &end, &[], b"wrong").refuses(400, "DIGEST_INVALID");
    served.get(&begun.location()).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    assert!(blobs(&dunnage).is_empty());
    assert_eq!(testdata::files(&dunnage.root().join("registry/uploads"), "").len(), 0);
}

#[test]
fn one_blob_from_many_clients_is_there_once_and_whole() {
    let (dunnage, served) = served();
    let content = bytes(3 << 20);
    std::thread::scope(|threads| {
        for number in 0..8 {
            let (served, content) = (&served, &content);
            threads.spawn(move || served.blob(&format!("r{number}"), content));
        }
    });
    assert_eq!(blobs(&dunnage), [&sha256(&content)[7..]]);
    let found = served.get(&format!("/v2/r5/blobs/{}", sha256(&content))).is(200);
    assert!(found.body == content);
    // One upload is one client's at a time.
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let mut first = served.connect();
    let head = format!("PATCH {} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc", begun.location());
    first.write_all(head.as_bytes()).unwrap();
    until("the first is at it", || served.ask("PATCH", &begun.location(), &[], b"").status == 409);
    // What it sent before it was cut is there.
    drop(first);
    let mut range = String::new();
    until("the first is gone", || {
        let heard = served.get(&begun.location());
        range = heard.header("range").to_owned();
        heard.status == 204
    });
    assert_eq!(range, "0-2");
}

#[test]
fn a_server_that_is_killed_goes_on_where_it_was() {
    let (dunnage, mut served) = served();
    let content = bytes(8 << 20);
    let digest = sha256(&content);
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202).location();
    let mut sent = 0;
    for part in 1..4 {
        // Some of a piece, and the server dies in the middle of it.
        let mut stream = served.connect();
        let rest = &content[sent..];
        let head = format!("PATCH {begun} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", rest.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&rest[..rest.len() / 2]).unwrap();
        std::thread::sleep(Duration::from_millis(30 * part));
        served.kill();
        served = Served::start(&dunnage, &[]);
        let range = served.get(&begun).is(204).header("range").to_owned();
        sent = range.trim_start_matches("0-").parse::<usize>().unwrap() + 1;
        sent = if sent == 1 { 0 } else { sent };
        assert!(sent <= content.len());
    }
    let range = format!("{sent}-{}", content.len() - 1);
    let end = format!("{begun}?digest={digest}");
    let put = served.ask("PUT", &end, &[("Content-Range", &range)], &content[sent..]).is(201);
    assert!(served.get(&put.location()).is(200).body == content);
    assert!(dunnage.run(["system", "check"]).ok().stdout.contains("all is well"));
}

#[test]
fn a_server_that_is_killed_in_pushes_has_images_whole_or_not_at_all() {
    if skipped(&[Need::Root, Need::Program("busybox")]) {
        return;
    }
    let source = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    source.busybox();
    source.build("FROM base\nRUN mkdir /d && head -c 3000000 /dev/urandom > /d/f\nCMD [\"echo\", \"whole\"]\n");
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    for round in 0..12 {
        let served = Served::start(&dunnage, &[]);
        let name = format!("{}/app:1", served.host());
        source.run(["tag", "app", &name]).ok();
        let mut push =
            source.command(["push", "-q", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(40 * round));
        let done = push.try_wait().unwrap().is_some_and(|status| status.success());
        served.kill();
        let _ = push.kill();
        push.wait().unwrap();
        assert!(dunnage.run(["system", "check"]).ok().stdout.contains("all is well"), "round {round}");
        if !dunnage.run(["images", "-q", "app:1"]).ok().stdout.is_empty() {
            assert_eq!(dunnage.run(["run", "--rm", "app:1"]).ok().stdout, "whole\n", "round {round}");
        }
        if done {
            break;
        }
    }
    let served = Served::start(&dunnage, &[]);
    let name = format!("{}/app:1", served.host());
    source.run(["tag", "app", &name]).ok();
    source.run(["push", "-q", &name]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app:1"]).ok().stdout, "whole\n");
}

#[test]
fn it_ends_when_it_is_asked_to_and_lets_requests_end() {
    let (dunnage, served) = served();
    let content = bytes(4 << 20);
    let digest = served.blob("a", &content);
    // A client that has begun to read, and reads on after the signal.
    let mut stream = served.connect();
    let ask = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(ask.as_bytes()).unwrap();
    let mut begin = [0; 1000];
    stream.read_exact(&mut begin).unwrap();
    served.signal("TERM");
    std::thread::sleep(Duration::from_millis(300));
    let whole = heard(begin.as_slice().chain(stream));
    assert!(whole.body == content);
    let begun = Instant::now();
    assert_eq!(served.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(60));
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
    // With nothing under way it ends at once, by Ctrl-C too.
    let served = Served::start(&dunnage, &["--quiet"]);
    served.signal("INT");
    assert_eq!(served.wait(), Some(0));
}
