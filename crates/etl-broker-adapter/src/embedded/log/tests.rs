//! The log on a disk that fails when it is told to.

use redb::backends::InMemoryBackend;

use super::*;

/// A disk that takes so many more syncs.
#[derive(Debug)]
struct Limited {
    disk: InMemoryBackend,
    left: Arc<AtomicI64>,
}

impl StorageBackend for Limited {
    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, out)
    }

    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.disk.set_len(len)
    }

    fn sync_data(&self) -> std::io::Result<()> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => self.disk.sync_data(),
            _ => Err(std::io::Error::other("no more syncs")),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.write(offset, data)
    }
}

#[test]
fn what_is_committed_is_not_reported_as_failed_because_retention_is() {
    let left = Arc::new(AtomicI64::new(i64::MAX));
    let disk = Limited {
        disk: InMemoryBackend::new(),
        left: left.clone(),
    };
    let log = Log::with_backend(disk).expect("opens");
    let keep = Retention {
        records: 1,
        ..Retention::default()
    };
    log.create_topic("t", 1, Some(keep)).expect("is made");
    let record = Record::new("t", "v");
    let append = Append {
        records: vec![&record],
        ..Append::default()
    };
    let before = left.load(Ordering::Relaxed);
    log.commit(&append).expect("commits");
    let syncs = before - left.load(Ordering::Relaxed);
    // The next commit has as many syncs as it needs, and what retention does after it none.
    left.store(syncs, Ordering::Relaxed);
    log.swept.store(0, Ordering::Relaxed);
    log.commit(&append).expect("is committed");
    assert!(left.load(Ordering::Relaxed) < 0, "retention was tried");
}

/// Whoever waits to look while another thread opens the folder joins it: it is no other process that has it.
#[test]
fn who_waits_to_look_joins_who_opens_meanwhile() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(Log::open(folder.path(), OpenOptions { create: true }).expect("is made"));
    let path = place::find(folder.path(), false).expect("is there");
    let file = std::fs::File::open(path.join("log.redb")).expect("opens");
    file.lock().expect("nobody has it");
    std::thread::scope(|scope| {
        let looked = scope.spawn(|| Log::look(folder.path()));
        std::thread::sleep(std::time::Duration::from_millis(100));
        // As far as others can tell: the file is taken, and this process has the log.
        let log = Log::with_backend(InMemoryBackend::new()).expect("opens");
        let registered = Arc::downgrade(&log);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(path.clone(), registered);
        drop(open);
        let looked = looked.join().expect("no panic").expect("joins");
        assert!(Arc::ptr_eq(&looked, &log));
    });
}
