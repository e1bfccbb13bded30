//! `dunnage registry serve` after the list of the distribution specification's own tests: pull, push, content discovery,
//! content management.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use serde_json::{Value, json};
use testdata::archive::sha256;
use testdata::{Dunnage, Heard, Served};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const UNKNOWN: &str = "sha256:3333333333333333333333333333333333333333333333333333333333333333";

fn served() -> (Dunnage, Served) {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    let served = Served::start(&dunnage, &[]);
    (dunnage, served)
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": sha256(bytes), "size": bytes.len() })
}

/// An artifact of one blob, which is pushed, and the manifest, which is not.
fn artifact(served: &Served, repository: &str, blob: &[u8]) -> Value {
    for bytes in [b"{}".as_slice(), blob] {
        served.blob(repository, bytes);
    }
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.test",
        "config": descriptor("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [descriptor("application/octet-stream", blob)],
    })
}

fn digest_of(manifest: &Value) -> String {
    sha256(manifest.to_string().as_bytes())
}

fn delete(served: &Served, path: &str) -> Heard {
    served.ask("DELETE", path, &[], b"")
}

#[test]
fn pull_blobs_and_manifests() {
    let (_dunnage, served) = served();
    let head = served.get("/v2/").is(200);
    assert_eq!(head.header("docker-distribution-api-version"), "registry/2.0");
    served.ask("HEAD", "/v2/", &[], b"").is(200);
    let blob = b"a blob of some bytes";
    let manifest = artifact(&served, "team/app", blob);
    let (digest, blob_digest) = (digest_of(&manifest), sha256(blob));
    let put = served.manifest("team/app", "1", &manifest).is(201);
    assert_eq!(put.header("docker-content-digest"), digest);
    assert_eq!(put.location(), format!("/v2/team/app/manifests/{digest}"));
    // Blobs: what is not there, the head, the whole.
    served.ask("HEAD", &format!("/v2/team/app/blobs/{UNKNOWN}"), &[], b"").is(404);
    served.get(&format!("/v2/team/app/blobs/{UNKNOWN}")).refuses(404, "BLOB_UNKNOWN");
    served.get("/v2/team/app/blobs/sha256:xyz").refuses(400, "DIGEST_INVALID");
    let path = format!("/v2/team/app/blobs/{blob_digest}");
    let head = served.ask("HEAD", &path, &[], b"").is(200);
    assert_eq!((head.header("content-length"), head.body.len()), (&*blob.len().to_string(), 0));
    assert_eq!(head.header("docker-content-digest"), blob_digest);
    let got = served.get(&path).is(200);
    assert_eq!((got.body.as_slice(), got.header("accept-ranges")), (blob.as_slice(), "bytes"));
    served.ask("GET", &path, &[("If-None-Match", &format!("\"{blob_digest}\""))], b"").is(304);
    // Parts of it.
    for (range, status, part, says) in [
        ("bytes=2-5", 206, &blob[2..6], "bytes 2-5/20"),
        ("bytes=15-", 206, &blob[15..], "bytes 15-19/20"),
        ("bytes=-4", 206, &blob[16..], "bytes 16-19/20"),
        ("bytes=18-99", 206, &blob[18..], "bytes 18-19/20"),
        ("bytes=1-2,4-5", 200, &blob[..], ""),
    ] {
        let got = served.ask("GET", &path, &[("Range", range)], b"").is(status);
        assert_eq!((got.body.as_slice(), got.header("content-range")), (part, says), "{range}");
    }
    let outside = served.ask("GET", &path, &[("Range", "bytes=20-")], b"").is(416);
    assert_eq!(outside.header("content-range"), "bytes */20");
    // Another repository does not show it.
    served.get(&format!("/v2/other/blobs/{blob_digest}")).is(404);
    // Manifests: by tag and by digest, byte for byte.
    for wanted in ["1", &digest] {
        let path = format!("/v2/team/app/manifests/{wanted}");
        let head = served.ask("HEAD", &path, &[], b"").is(200);
        assert_eq!(head.header("docker-content-digest"), digest);
        assert_eq!(head.header("content-length"), manifest.to_string().len().to_string());
        let got = served.get(&path).is(200);
        assert_eq!((got.header("content-type"), &*got.body), (MANIFEST, manifest.to_string().as_bytes()));
    }
    for wanted in [".INVALID_MANIFEST_NAME", "2", UNKNOWN] {
        served.ask("HEAD", &format!("/v2/team/app/manifests/{wanted}"), &[], b"").is(404);
        served.get(&format!("/v2/team/app/manifests/{wanted}")).refuses(404, "MANIFEST_UNKNOWN");
    }
    served.get("/v2/none/manifests/1").refuses(404, "MANIFEST_UNKNOWN");
    served.get("/v1/").refuses(404, "UNSUPPORTED");
    let refused = served.ask("POST", "/v2/team/app/manifests/1", &[], b"").refuses(405, "UNSUPPORTED");
    assert_eq!(refused.header("allow"), "GET, HEAD, PUT, DELETE");
}

#[test]
fn push_blobs_at_once_and_in_a_stream() {
    let (_dunnage, served) = served();
    let uploads = "/v2/team/app/blobs/uploads/";
    // POST then PUT.
    let blob = b"posted, then put";
    let begun = served.ask("POST", uploads, &[], b"").is(202);
    assert!(begun.location().starts_with(uploads) && !begun.header("docker-upload-uuid").is_empty());
    let put = served.ask("PUT", &format!("{}?digest={}", begun.location(), sha256(blob)), &[], blob).is(201);
    assert_eq!(put.location(), format!("/v2/team/app/blobs/{}", sha256(blob)));
    assert_eq!(served.get(&put.location()).is(200).body, blob);
    // The upload is over with that.
    served.get(&begun.location()).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    // All in one POST; the digest is encoded as libraries do it.
    let blob = b"in one request";
    let encoded = sha256(blob).replace(':', "%3A");
    let put = served.ask("POST", &format!("{uploads}?digest={encoded}"), &[], blob).is(201);
    assert_eq!(served.get(&put.location()).is(200).body, blob);
    // Nothing is a blob too, and so is a digest of the other algorithm.
    served.blob("team/app", b"");
    let long = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";
    let put = served.ask("POST", &format!("{uploads}?digest=sha512:{long}"), &[], b"").is(201);
    served.get(&put.location()).is(200);
    // A stream: one PATCH without a range, in chunks of HTTP.
    let begun = served.ask("POST", uploads, &[], b"").is(202);
    let chunked = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/octet-stream")];
    let sent = served.ask("PATCH", &begun.location(), &chunked, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").is(202);
    assert_eq!(sent.header("range"), "0-10");
    served.ask("PUT", &format!("{}?digest={}", sent.location(), sha256(b"hello world")), &[], b"").is(201);
    // Wrong digests, and none.
    served.ask("POST", &format!("{uploads}?digest={UNKNOWN}"), &[], b"x").refuses(400, "DIGEST_INVALID");
    served.ask("POST", &format!("{uploads}?digest=md5:x"), &[], b"x").refuses(400, "DIGEST_INVALID");
    let begun = served.ask("POST", uploads, &[], b"").is(202);
    served.ask("PUT", &begun.location(), &[], b"x").refuses(400, "DIGEST_INVALID");
    served.get(&format!("/v2/team/app/blobs/{UNKNOWN}")).is(404);
}

#[test]
fn push_blobs_in_pieces_and_take_them_over() {
    let (dunnage, served) = served();
    let (first, second) = (b"the first piece, ".as_slice(), b"the second".as_slice());
    let whole = [first, second].concat();
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    let range = |from: usize, bytes: &[u8]| format!("{from}-{}", from + bytes.len() - 1);
    let patch = |path: &str, range: &str, bytes: &[u8]| served.ask("PATCH", path, &[("Content-Range", range)], bytes);
    // What is not next is not taken, and the answer says what is.
    patch(&begun.location(), &range(first.len(), second), second).refuses(416, "BLOB_UPLOAD_INVALID");
    let sent = patch(&begun.location(), &range(0, first), first).is(202);
    let so_far = format!("0-{}", first.len() - 1);
    assert_eq!(sent.header("range"), so_far);
    let again = patch(&sent.location(), &range(0, first), first).refuses(416, "BLOB_UPLOAD_INVALID");
    assert_eq!((again.header("range"), again.location()), (&*so_far, sent.location()));
    patch(&sent.location(), "7-3", second).refuses(400, "BLOB_UPLOAD_INVALID");
    patch(&sent.location(), &format!("{}-999", first.len()), second).is(416);
    // Where it is, also for another process: the server may die meanwhile.
    let asked = served.get(&sent.location()).is(204);
    assert_eq!(asked.header("range"), so_far);
    served.kill();
    let served = Served::start(&dunnage, &[]);
    assert_eq!(served.get(&sent.location()).is(204).header("range"), so_far);
    let last = [("Content-Range", &*range(first.len(), second))];
    let end = format!("{}?digest={}", sent.location(), sha256(&whole));
    let put = served.ask("PUT", &end, &last, second).is(201);
    assert_eq!(served.get(&put.location()).is(200).body, whole);
    // Nobody wants it any more.
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"").is(202);
    delete(&served, &begun.location()).is(204);
    delete(&served, &begun.location()).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    served.get(&begun.location()).refuses(404, "BLOB_UPLOAD_UNKNOWN");
    served.get("/v2/a/blobs/uploads/..%2f..%2fformat").is(404);
    // From another repository, and from one that does not have it.
    let mount = |from: &str| format!("/v2/b/blobs/uploads/?mount={}&from={from}", sha256(&whole));
    served.ask("POST", &mount("none"), &[], b"").is(202);
    served.ask("POST", &mount("../a"), &[], b"").is(202);
    served.ask("POST", &format!("/v2/b/blobs/uploads/?mount={}", sha256(&whole)), &[], b"").is(202);
    let mounted = served.ask("POST", &mount("a"), &[], b"").is(201);
    assert_eq!(mounted.location(), format!("/v2/b/blobs/{}", sha256(&whole)));
    assert_eq!(served.get(&mounted.location()).is(200).body, whole);
}

#[test]
fn push_manifests_that_are_whole_and_no_others() {
    let (_dunnage, served) = served();
    let manifest = artifact(&served, "app", b"blob");
    served.manifest("app", &digest_of(&manifest), &manifest).is(201);
    served.manifest("app", UNKNOWN, &manifest).refuses(400, "DIGEST_INVALID");
    served.manifest("app", ".x", &manifest).refuses(400, "MANIFEST_INVALID");
    served.manifest("other", "1", &manifest).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    let changed = |at: &str, value: Value| {
        let mut changed = manifest.clone();
        *changed.pointer_mut(at).unwrap() = value;
        changed
    };
    served.manifest("app", "1", &changed("/layers/0/digest", json!(UNKNOWN))).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    served.manifest("app", "1", &changed("/layers/0/size", json!(5))).refuses(400, "SIZE_INVALID");
    served.manifest("app", "1", &changed("/schemaVersion", json!(1))).refuses(400, "MANIFEST_INVALID");
    served.manifest("app", "1", &changed("/mediaType", json!("text/plain"))).refuses(400, "MANIFEST_INVALID");
    let put = |kind: &str, body: &[u8]| served.ask("PUT", "/v2/app/manifests/1", &[("Content-Type", kind)], body);
    put(MANIFEST, b"{").refuses(400, "MANIFEST_INVALID");
    put(INDEX, manifest.to_string().as_bytes()).refuses(400, "MANIFEST_INVALID");
    let mut both = manifest.clone();
    both["manifests"] = json!([]);
    put(MANIFEST, both.to_string().as_bytes()).refuses(400, "MANIFEST_INVALID");
    put(MANIFEST, &vec![b' '; (4 << 20) + 1]).refuses(413, "MANIFEST_INVALID");
    served.get("/v2/app/manifests/1").is(404);
    // No layers at all, and an index of what is there.
    served.manifest("app", "none", &changed("/layers", json!([]))).is(201);
    let entry = |digest: &str, size: usize| json!({ "mediaType": MANIFEST, "digest": digest, "size": size });
    let index = |entry: Value| json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    let whole = index(entry(&digest_of(&manifest), manifest.to_string().len()));
    served.manifest("app", "index", &whole).is(201);
    assert_eq!(served.get("/v2/app/manifests/index").is(200).header("content-type"), INDEX);
    served.manifest("app", "index", &index(entry(UNKNOWN, 3))).refuses(404, "MANIFEST_BLOB_UNKNOWN");
    // Names are checked before all.
    for name in ["UPPER", "a..b", "-a", "a/"] {
        served.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").refuses(400, "NAME_INVALID");
    }
}

#[test]
fn discover_tags_repositories_and_referrers() {
    let (_dunnage, served) = served();
    served.get("/v2/app/tags/list").refuses(404, "NAME_UNKNOWN");
    assert_eq!(served.get("/v2/_catalog").is(200).json(), json!({ "repositories": [] }));
    let manifest = artifact(&served, "app", b"blob");
    for tag in ["b", "a", "c", "B"] {
        served.manifest("app", tag, &manifest).is(201);
    }
    let tags = |path: &str| {
        let heard = served.get(path).is(200);
        let tags: Vec<String> = serde_json::from_value(heard.json()["tags"].clone()).unwrap();
        (tags.join(" "), heard.header("link").to_owned())
    };
    assert_eq!(served.get("/v2/app/tags/list").is(200).json()["name"], "app");
    assert_eq!(tags("/v2/app/tags/list"), ("B a b c".to_owned(), String::new()));
    let (page, link) = tags("/v2/app/tags/list?n=2");
    assert_eq!((&*page, &*link), ("B a", "</v2/app/tags/list?last=a&n=2>; rel=\"next\""));
    assert_eq!(tags("/v2/app/tags/list?n=2&last=a"), ("b c".to_owned(), String::new()));
    assert_eq!(tags("/v2/app/tags/list?last=b").0, "c");
    assert_eq!(tags("/v2/app/tags/list?n=0").0, "");
    served.get("/v2/app/tags/list?n=x").refuses(400, "PAGINATION_NUMBER_INVALID");
    let other = artifact(&served, "ghcr.io/x/y", b"blob");
    served.manifest("ghcr.io/x/y", "1", &other).is(201);
    assert_eq!(served.get("/v2/_catalog").is(200).json(), json!({ "repositories": ["app", "ghcr.io/x/y"] }));
    let page = served.get("/v2/_catalog?n=1").is(200);
    assert_eq!(page.header("link"), "</v2/_catalog?last=app&n=1>; rel=\"next\"");
    assert_eq!(served.get("/v2/_catalog?n=1&last=app").is(200).json(), json!({ "repositories": ["ghcr.io/x/y"] }));
    // Referrers, also of what is not there yet; with and without a type of their own.
    let subject = |of: &str| json!({ "mediaType": MANIFEST, "digest": of, "size": 3 });
    let refers = |of: &str, kind: Option<&str>, note: &str| {
        let mut manifest = manifest.clone();
        manifest["subject"] = subject(of);
        manifest["annotations"] = json!({ "note": note });
        manifest["artifactType"] = json!(kind);
        manifest
    };
    let digest = digest_of(&manifest);
    let (signed, listed) = (refers(&digest, Some("application/sig"), "1"), refers(&digest, None, "2"));
    for referrer in [&signed, &listed] {
        let put = served.manifest("app", &digest_of(referrer), referrer).is(201);
        assert_eq!(put.header("oci-subject"), digest);
    }
    let missing = refers(UNKNOWN, Some("application/sig"), "3");
    served.manifest("app", "later", &missing).is(201);
    let list = |path: &str| {
        let heard = served.get(path).is(200);
        assert_eq!((heard.header("content-type"), &heard.json()["mediaType"]), (INDEX, &json!(INDEX)));
        (heard.json()["manifests"].as_array().unwrap().clone(), heard.header("oci-filters-applied").to_owned())
    };
    let (all, applied) = list(&format!("/v2/app/referrers/{digest}"));
    assert_eq!((all.len(), &*applied), (2, ""));
    let (some, applied) = list(&format!("/v2/app/referrers/{digest}?artifactType=application%2Fsig"));
    assert_eq!((some.len(), &*applied), (1, "artifactType"));
    assert_eq!(some[0]["digest"], digest_of(&signed));
    assert_eq!((&some[0]["artifactType"], &some[0]["annotations"]["note"]), (&json!("application/sig"), &json!("1")));
    let of_config = all.iter().find(|entry| entry["digest"] == digest_of(&listed)).unwrap();
    assert_eq!(of_config["artifactType"], "application/vnd.oci.empty.v1+json");
    assert_eq!(list(&format!("/v2/app/referrers/{UNKNOWN}")).0.len(), 1);
    assert_eq!(list(&format!("/v2/none/referrers/{digest}")).0.len(), 0);
    served.get("/v2/app/referrers/sha256:x").refuses(400, "DIGEST_INVALID");
}

#[test]
fn remove_tags_manifests_and_blobs() {
    let (dunnage, served) = served();
    let manifest = artifact(&served, "app", b"blob");
    let digest = digest_of(&manifest);
    for tag in ["1", "2", "3"] {
        served.manifest("app", tag, &manifest).is(201);
    }
    delete(&served, "/v2/app/manifests/1").is(202);
    served.get("/v2/app/manifests/1").is(404);
    delete(&served, "/v2/app/manifests/1").refuses(404, "MANIFEST_UNKNOWN");
    assert_eq!(served.get("/v2/app/tags/list").is(200).json()["tags"], json!(["2", "3"]));
    // With a manifest go its tags, and it is no referrer any more.
    delete(&served, &format!("/v2/app/manifests/{digest}")).is(202);
    for wanted in ["2", "3", &digest] {
        served.get(&format!("/v2/app/manifests/{wanted}")).is(404);
    }
    delete(&served, &format!("/v2/app/manifests/{digest}")).is(404);
    let blob = format!("/v2/app/blobs/{}", sha256(b"blob"));
    delete(&served, &blob).is(202);
    served.get(&blob).is(404);
    delete(&served, &blob).refuses(404, "BLOB_UNKNOWN");
    // Its bytes go with a collection.
    let bytes = dunnage.root().join("registry/blobs/sha256").join(&sha256(b"blob")[7..]);
    assert!(bytes.exists());
    dunnage.run(["system", "prune", "-f"]).ok();
    assert!(!bytes.exists());
    // Who may only read.
    let reads = Served::start(&dunnage, &["--read-only"]);
    reads.ask("POST", "/v2/app/blobs/uploads/", &[], b"").refuses(405, "UNSUPPORTED");
    delete(&reads, "/v2/app/manifests/1").refuses(405, "UNSUPPORTED");
    reads.get("/v2/").is(200);
}
