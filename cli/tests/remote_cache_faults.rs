//! Registries and object stores that fail at every request of an export and of an import: the store stays sound, the cache
//! gives nothing wrong, and the same again gives what it would have given.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use testdata::{Asked, Dunnage, FakeRegistry, Ran, Reply, Server};

/// How a service fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// From its n-th answer on it refuses.
    Refuses(usize),
    /// Its n-th answer breaks off in the middle.
    Cuts(usize),
}

/// What goes wrong, and how often the service was asked.
#[derive(Debug, Clone, Default)]
struct Faults(Arc<Mutex<(usize, Option<Fault>)>>);

impl Faults {
    fn begin(&self, fault: Option<Fault>) {
        *self.0.lock().unwrap() = (0, fault);
    }

    fn asked(&self) -> usize {
        self.0.lock().unwrap().0
    }

    fn rule(&self, reply: Reply) -> Reply {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        match state.1 {
            Some(Fault::Refuses(from)) if state.0 > from => Reply::status(403),
            Some(Fault::Cuts(at)) if state.0 == at + 1 => {
                let half = reply.body().len() / 2;
                reply.cut(half)
            }
            _ => reply,
        }
    }
}

/// A service that holds caches, and can be emptied.
struct Service {
    faults: Faults,
    to: String,
    from: String,
    empty: Box<dyn Fn()>,
}

fn registry() -> Service {
    let faults = Faults::default();
    let shared = faults.clone();
    let registry = FakeRegistry::ruled(move |_, reply| shared.rule(reply));
    let name = format!("{}/app:cache", registry.host());
    let contents = Arc::clone(&registry.contents);
    let empty = Box::new(move || {
        let mut contents = contents.lock().unwrap();
        contents.blobs.clear();
        contents.manifests.clear();
    });
    Service { faults, to: format!("type=registry,ref={name},mode=max"), from: name, empty }
}

/// An object store of one bucket that knows what a cache asks.
fn objects() -> Service {
    let faults = Faults::default();
    let held: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
    let (shared, objects) = (faults.clone(), Arc::clone(&held));
    let server = Server::start(move |asked| shared.rule(object(&mut objects.lock().unwrap(), asked)));
    let place = format!(
        "type=s3,bucket=b,region=r,endpoint_url=http://127.0.0.1:{},access_key_id=a,secret_access_key=s",
        server.port()
    );
    let empty = Box::new(move || held.lock().unwrap().clear());
    Service { faults, to: format!("{place},mode=max"), from: place, empty }
}

fn object(objects: &mut BTreeMap<String, Vec<u8>>, asked: &Asked) -> Reply {
    match asked.method.as_str() {
        "PUT" => {
            objects.insert(asked.path.clone(), asked.body.clone());
            Reply::status(200)
        }
        _ => match objects.get(&asked.path) {
            Some(bytes) => Reply::ok(bytes.clone()),
            None => Reply::status(404).with_body("<Error><Code>NoSuchKey</Code></Error>"),
        },
    }
}

#[track_caller]
fn sound(dunnage: &Dunnage, ran: &Ran) {
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    assert_eq!(dunnage.leftovers(), Vec::<PathBuf>::new());
    dunnage.run(["system", "check"]).ok();
}

/// About so many of the requests, the first and the last among them.
fn some(of: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = of.div_ceil(most).max(1);
    (0..of).step_by(step).chain(std::iter::once(of - 1))
}

fn builds(dunnage: &Dunnage, args: &[&str]) -> Ran {
    dunnage.run([&["build", "--progress", "plain", "-t", "app"], args, &["context"]].concat())
}

#[track_caller]
fn shows(dunnage: &Dunnage) {
    assert_eq!(dunnage.run(["run", "--rm", "app", "tail", "-c", "6", "/both"]).ok().stdout, "other\n");
}

fn fails_everywhere(service: &Service) {
    let Some(dunnage) = Dunnage::with_cached_build(env!("CARGO_BIN_EXE_dunnage")) else { return };
    dunnage.dir("cache");
    let Service { faults, to, from, empty } = service;
    builds(&dunnage, &[]).ok();
    builds(&dunnage, &["--cache-to", to]).ok();
    let requests = faults.asked();
    assert!(requests > 10, "{requests}");
    for at in some(requests, 6) {
        empty();
        faults.begin(Some(Fault::Refuses(at)));
        let ran = builds(&dunnage, &["--cache-to", to]);
        assert!(matches!(ran.code, 1 | 3), "request {at}, code {}: {}", ran.code, ran.stderr);
        sound(&dunnage, &ran);
        // Whoever reads what is there so far has no harm of it; whoever writes goes on.
        faults.begin(None);
        let other = dunnage.elsewhere();
        builds(&other, &["--cache-from", from]).ok();
        shows(&other);
        builds(&dunnage, &["--cache-to", to]).ok();
        let third = dunnage.elsewhere();
        third.build_context(&["--cache-from", from, "-o", "type=cacheonly"]);
        third.all_cached(6);
    }
    // What breaks off once is asked for again.
    for at in some(requests, 4) {
        empty();
        faults.begin(Some(Fault::Cuts(at)));
        let ran = builds(&dunnage, &["--cache-to", to]).ok();
        sound(&dunnage, &ran);
    }
    faults.begin(None);
    let other = dunnage.elsewhere();
    builds(&other, &["--cache-from", from]).ok();
    let requests = faults.asked();
    for fault in some(requests, 4).map(Fault::Refuses).chain(some(requests, 3).map(Fault::Cuts)) {
        faults.begin(Some(fault));
        let other = dunnage.elsewhere();
        let ran = builds(&other, &["--cache-from", from]).ok();
        sound(&other, &ran);
        shows(&other);
        // What was not to be had is no loss for good.
        faults.begin(None);
        builds(&other, &["--cache-from", from]).ok();
        other.all_cached(6);
    }
}

#[test]
fn security_f01_a_registry_that_fails_anywhere_leaves_store_and_cache_sound() {
    fails_everywhere(&registry());
}

#[test]
fn security_f01_an_object_store_that_fails_anywhere_leaves_store_and_cache_sound() {
    fails_everywhere(&objects());
}
