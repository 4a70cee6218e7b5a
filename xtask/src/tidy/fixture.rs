//! A small repository in a temporary folder, for planting violations; removed when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};

use super::Tree;

/// The folder.
pub struct Fixture {
    root: PathBuf,
}

impl Fixture {
    /// An empty folder; the name keeps tests that run at the same time apart.
    pub fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).expect("the temporary folder can be created");
        Self { root }
    }

    /// Its path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Writes a file, and the folders it lies in.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("the path has a folder"))
            .expect("the folder can be created");
        fs::write(path, text).expect("the file can be written");
        self
    }

    /// Its files, as the checks see them.
    pub fn tree(&self) -> Tree {
        Tree::walk(&self.root).expect("the folder can be listed")
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
