//! ADD of URLs and repositories, against servers on loopback.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use testdata::{Dunnage, Need, Reply, Server};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

/// SHA-256 and SHA-512 of `hello\n`.
const HELLO: &str = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
const HELLO_512: &str = "sha512:e7c22b994c59d9cf2b48e549b1e24666636045930d3da7c1acb299d1c3b7f931f94aae41edda2c2b207a36e10f8bcb8d45223e54878f5b316e7ce3b6bc019629";

fn dunnage() -> Option<Dunnage> {
    Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &NEEDS)
}

fn hello() -> Server {
    Server::start(|_| {
        Reply::ok("hello\n").header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT").header("ETag", "\"one\"")
    })
}

fn app(dunnage: &Dunnage) -> String {
    dunnage.run(["run", "--rm", "app"]).ok().stdout
}

#[test]
fn builder_d04_a_url_is_a_private_file_of_the_servers_time() {
    let Some(dunnage) = dunnage() else { return };
    let server = hello();
    dunnage.build(&format!(
        "FROM base\nADD {0} /d/\nADD {0} /named\nADD --chown=3:4 --chmod=640 {0} /owned\nCMD stat -c '%n %a %u:%g %Y' /d/a.txt /named /owned; cat /d/a.txt\n",
        server.url("/x/a.txt?q=/z")
    ));
    assert_eq!(
        app(&dunnage),
        "/d/a.txt 600 0:0 1445412480\n/named 600 0:0 1445412480\n/owned 640 3:4 1445412480\nhello\n"
    );
}

#[test]
fn builder_d04_a_url_is_asked_again_and_its_bytes_are_kept() {
    let Some(dunnage) = dunnage() else { return };
    let server = Server::start(|asked| match asked.headers.get("if-none-match").map(String::as_str) {
        Some("\"one\"") => Reply::status(304),
        _ => Reply::ok("hello\n").header("ETag", "\"one\""),
    });
    let file = format!("FROM base\nADD {} /f\nRUN cat /f\n", server.url("/f"));
    let first = dunnage.build(&file);
    assert_eq!(server.take().len(), 1);
    assert_eq!(dunnage.build(&file), first);
    let asked = server.take();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].headers.get("if-none-match").map(String::as_str), Some("\"one\""));
    // Also where the step is performed anew, the bytes are not sent again.
    dunnage.run(["build", "--no-cache", "context"]).ok();
    assert_eq!(server.take().len(), 1);
}

#[test]
fn builder_d05_security_d06_a_wrong_checksum_shows_both_and_leaves_nothing() {
    let Some(dunnage) = dunnage() else { return };
    let server = hello();
    let wrong = format!("sha256:{}", "0".repeat(64));
    dunnage.write("context/Dockerfile", format!("FROM base\nADD --checksum={wrong} {} /f\n", server.url("/f")));
    for _ in 0..2 {
        let ran = dunnage.run(["build", "context"]).fails(1, &wrong);
        assert!(ran.stderr.contains(HELLO) && ran.stderr.contains("Dockerfile:2"), "{}", ran.stderr);
        // Nothing was kept: it is asked each time.
        assert_eq!(server.take().len(), 1);
    }
    let blobs = dunnage.root().join("blobs/sha256");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
}

#[test]
fn builder_d05_a_right_checksum_hits_without_network() {
    let Some(dunnage) = dunnage() else { return };
    for checksum in [HELLO, HELLO_512] {
        let server = hello();
        let file = format!("FROM base\nADD --checksum={checksum} {} /f-{}\n", server.url("/f"), &checksum[..6]);
        let first = dunnage.build(&file);
        assert_eq!(server.take().len(), 1);
        assert_eq!(dunnage.build(&file), first);
        assert_eq!(server.take().len(), 0);
    }
    dunnage.write("context/Dockerfile", "FROM base\nADD --checksum=sha256:12 a b /f\n");
    dunnage.run(["build", "context"]).fails(1, "checksum can't be specified for multiple sources");
}

#[test]
fn add_of_a_url_unpacks_only_when_asked() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("t/inner", "packed\n");
    let tar =
        Command::new("tar").args(["cz", "-C", "t", "inner"]).current_dir(dunnage.dir(".")).output().unwrap().stdout;
    let server = Server::start(move |_| Reply::ok(tar.clone()));
    let url = server.url("/a.tgz");
    dunnage.write("context/t.tar", "");
    std::fs::rename(dunnage.dir("t"), dunnage.dir("context").join("t")).unwrap();
    Command::new("tar").args(["cf", "t.tar", "t"]).current_dir(dunnage.dir("context")).status().unwrap();
    dunnage.build(&format!(
        "FROM base\nADD {url} /plain/\nADD --unpack=true --chown=5 {url} /u/\nADD --unpack=false t.tar /kept/\nCMD ls /plain /u /kept; cat /u/inner; stat -c %u:%g /u/inner\n"
    ));
    assert_eq!(app(&dunnage), "/kept:\nt.tar\n\n/plain:\na.tgz\n\n/u:\ninner\npacked\n5:5\n");
}

#[test]
fn security_r13_errors_that_pass_are_waited_out_and_others_are_told() {
    let Some(dunnage) = dunnage() else { return };
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/busy" => match count.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::status(429).header("Retry-After", "1"),
            1 => Reply::status(503),
            _ => Reply::ok("at last\n"),
        },
        _ => Reply::status(404),
    });
    let began = std::time::Instant::now();
    dunnage.build(&format!("FROM base\nADD {} /f\nCMD cat /f\n", server.url("/busy")));
    assert!(began.elapsed() >= std::time::Duration::from_secs(1), "Retry-After is kept");
    assert_eq!(app(&dunnage), "at last\n");
    assert_eq!(server.take().len(), 3);
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {} /f\n", server.url("/none")));
    dunnage.run(["build", "context"]).fails(1, "the server answers 404 Not Found");
    assert_eq!(server.take().len(), 1);
    dunnage.write("context/Dockerfile", "FROM base\nADD http://127.0.0.1:1/f /f\n");
    dunnage.run(["build", "context"]).fails(1, "cannot fetch http://127.0.0.1:1/f");
    dunnage.write("context/Dockerfile", "FROM base\nADD https://nobody.invalid/f /f\n");
    dunnage.run(["build", "context"]).fails(1, "cannot fetch https://nobody.invalid/f");
}

#[test]
fn security_f16_a_download_that_broke_goes_on_where_it_was() {
    let Some(dunnage) = dunnage() else { return };
    let body: Vec<u8> = (0..200_000_u32).flat_map(|number| number.to_le_bytes()).collect();
    let digest = sha256(&dunnage, &body);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |asked| {
        let reply = |status, body: &[u8]| {
            let reply = Reply::ok(body.to_vec()).header("ETag", "\"v\"");
            if status == 206 {
                let range = format!("bytes {}-799999/800000", 800_000 - body.len());
                Reply::partial(body.to_vec()).header("ETag", "\"v\"").header("Content-Range", range)
            } else {
                reply
            }
        };
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => reply(200, &body).cut(300_000),
            _ => {
                let from: usize =
                    asked.headers["range"].trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap();
                assert_eq!(asked.headers["if-range"], "\"v\"");
                reply(206, &body[from..])
            }
        }
    });
    dunnage.build(&format!("FROM base\nADD --checksum={digest} {} /f\n", server.url("/f")));
    assert_eq!(server.take().len(), 2);
}

#[test]
fn security_d07_redirects_keep_their_bounds() {
    let Some(dunnage) = dunnage() else { return };
    let other = Server::start(|asked| Reply::ok(format!("{:?}\n", asked.headers.get("authorization"))));
    let target = other.url("/file");
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/loop" => Reply::status(302).header("Location", "/loop"),
        "/file" => Reply::status(302).header("Location", "file:///etc/passwd"),
        _ => Reply::status(307).header("Location", target.clone()),
    });
    let failing = |path: &str, sentence: &str| {
        dunnage.write("context/Dockerfile", format!("FROM base\nADD {} /f\n", server.url(path)));
        dunnage.run(["build", "context"]).fails(1, sentence);
    };
    failing("/loop", "redirects more than 10 times");
    failing("/file", "it leads to a URL of the scheme `file`");
    // Credentials of one origin are not told to another, and are in no message.
    let url = server.url("/elsewhere").replace("http://", "http://user:secret@");
    dunnage.build(&format!("FROM base\nADD {url} /f\nCMD cat /f\n"));
    assert_eq!(app(&dunnage), "None\n");
    assert!(server.take().last().unwrap().headers.contains_key("authorization"));
    dunnage.write("context/Dockerfile", format!("FROM base\nADD {} /f\n", url.replace("elsewhere", "loop")));
    let ran = dunnage.run(["build", "--progress", "quiet", "context"]);
    let told = ran.stderr.lines().filter(|line| line.contains("redirects")).collect::<String>();
    assert!(!told.is_empty() && !told.contains("secret"), "{}", ran.stderr);
}

fn sha256(dunnage: &Dunnage, bytes: &[u8]) -> String {
    let path = dunnage.write("bytes", bytes);
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    format!("sha256:{}", String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap())
}

#[test]
fn security_d07_a_public_url_does_not_lead_into_this_network() {
    let Some(dunnage) = dunnage() else { return };
    // A proxy stands in for the internet: it answers for every host.
    let proxy = Server::start(|_| Reply::status(302).header("Location", "http://169.254.169.254/latest/meta-data"));
    dunnage.write("context/Dockerfile", "FROM base\nADD http://public.invalid/f /f\n");
    let mut command = dunnage.command(["build", "context"]);
    let ran: testdata::Ran = command.env("http_proxy", proxy.url("")).output().unwrap().into();
    ran.fails(1, "it leads to the private address http://169.254.169.254/");
    assert_eq!(proxy.take().len(), 1);
}
