//! A blob whose write or flush failed is not there, and the same bytes are written anew when they come again.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Write;

use dunnage_cache::{Blob, Digest, Lease, Store};

const BYTES: &[u8] = b"bytes that must last";

fn write(store: &Store, lease: &Lease) -> Result<Blob, dunnage_cache::Error> {
    let mut writer = store.blob_writer(lease)?;
    writer.write_all(BYTES).map_err(|error| error.downcast::<dunnage_cache::Error>().unwrap())?;
    writer.commit(None)
}

#[test]
fn security_f06_a_failed_blob_is_not_there_and_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let lease = store.lease().unwrap();
    let digest = Digest::sha256_of(BYTES);
    let before_its_name = ["blob.draft", "blob.write", "blob.flush", "blob.rename"];
    let armed: Vec<String> = before_its_name.iter().map(|name| format!("{name}=error:EIO@1")).collect();
    dunnage_cache::arm_failpoints(&format!("{};blob.dirsync=error:ENOSPC@1", armed.join(";"))).unwrap();
    for name in before_its_name {
        let error = write(&store, &lease).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(store.blob(&digest).unwrap().is_none(), "{name}");
        let drafts = std::fs::read_dir(lease.draft().parent().unwrap()).unwrap();
        assert_eq!(drafts.count(), 0, "{name}");
    }
    // It has its name and its bytes; that the name lasts is not known, and so it is not said.
    assert!(write(&store, &lease).unwrap_err().is_disk_full());
    let blob = write(&store, &lease).unwrap();
    assert_eq!(blob.read_all(100).unwrap(), BYTES);
    drop(lease);
}
