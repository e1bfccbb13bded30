//! Times the layer codec alone, for `bench/layers.sh`: each call prints the microseconds of what it names.
//!
//! ```text
//! layers import STORE TAR…     one after another, into a new store
//! layers together STORE TAR…   side by side
//! layers pack STORE FILE       packing a tree that holds FILE, diff id and tree hash included
//! layers sha256 FILE           SHA-256 of the same bytes and nothing else: the floor
//! ```
#![allow(clippy::print_stdout, missing_docs)]

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dunnage_cache::{CommitOptions, Lease, Store};
use sha2::Digest;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

fn main() -> Outcome {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let verb = args.next().unwrap_or_default();
    let paths: Vec<PathBuf> = args.collect();
    match (verb.to_str(), paths.as_slice()) {
        (Some("import"), [store, tars @ ..]) => import(store, tars, false),
        (Some("together"), [store, tars @ ..]) => import(store, tars, true),
        (Some("pack"), [store, file]) => pack(store, file),
        (Some("sha256"), [file]) => sha256(file),
        _ => Err("usage: layers import|together STORE TAR… | pack STORE FILE | sha256 FILE".into()),
    }
}

fn import(root: &Path, tars: &[PathBuf], together: bool) -> Outcome {
    let store = Store::open(root)?;
    let lease = store.lease()?;
    let started = Instant::now();
    if together {
        std::thread::scope(|threads| {
            let threads: Vec<_> = tars.iter().map(|tar| threads.spawn(|| one(&store, &lease, tar))).collect();
            threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread stopped".into())))
        })?;
    } else {
        tars.iter().try_for_each(|tar| one(&store, &lease, tar))?;
    }
    println!("{}", started.elapsed().as_micros());
    Ok(())
}

fn one(store: &Store, lease: &Lease, tar: &Path) -> Outcome {
    store.import_layer(lease, File::open(tar)?, None)?;
    Ok(())
}

/// The second commit of a tree finds the first: it packs and hashes, and writes nothing.
fn pack(root: &Path, file: &Path) -> Outcome {
    let store = Store::open(root)?;
    let lease = store.lease()?;
    for round in 0..2 {
        let snapshot = store.snapshot(&lease, &[])?;
        std::fs::hard_link(file, snapshot.upper().join("file"))?;
        let started = Instant::now();
        snapshot.commit(&store, &lease, &CommitOptions::default())?;
        if round == 1 {
            println!("{}", started.elapsed().as_micros());
        }
    }
    Ok(())
}

fn sha256(file: &Path) -> Outcome {
    let mut file = File::open(file)?;
    let mut bytes = vec![0; 256 << 10];
    let mut hasher = sha2::Sha256::new();
    let mut hashing = std::time::Duration::ZERO;
    loop {
        let count = file.read(&mut bytes)?;
        if count == 0 {
            break;
        }
        let started = Instant::now();
        hasher.update(bytes.get(..count).unwrap_or_default());
        hashing += started.elapsed();
    }
    std::hint::black_box(hasher.finalize());
    println!("{}", hashing.as_micros());
    Ok(())
}
