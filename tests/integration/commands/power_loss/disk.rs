//! A disk that may lose what was not synced.
//!
//! A file keeps what it had when it was synced, and of the changes since then any: none, all, the
//! first few or some, a write in part or as zeros behind the old end. Of names there are two
//! kinds of file systems: with a [`Names::Journal`] a sync of anything writes every change of a
//! name so far, and of later ones the first few may be there as well; with names that are
//! [`Names::Free`] only a sync of their folder counts, and of later ones any may be there.
//!
//! As in `CrashMonkey` and ALICE (both OSDI, 2018 and 2014), but drawn at random.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::Draws;
use super::trace::Call;

/// When a name is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Journal,
    Free,
}

/// What is written in one piece.
const SECTOR: usize = 512;

/// A change of a file since it was synced.
#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    changes: Vec<Change>,
    /// Where the next write without a place goes.
    position: usize,
}

/// The names in a folder, each with the number of its node.
type Entries = BTreeMap<String, usize>;

/// A change of a folder since it was synced.
#[derive(Debug, Clone)]
struct Renaming {
    gone: Option<String>,
    new: Option<(String, usize)>,
    /// The how-manieth change of any name this is.
    nth: usize,
}

impl Renaming {
    fn apply(&self, entries: &mut Entries) {
        if let Some(gone) = &self.gone {
            entries.remove(gone);
        }
        entries.extend(self.new.clone());
    }
}

#[derive(Debug, Clone, Default)]
struct Folder {
    synced: Entries,
    now: Entries,
    changes: Vec<Renaming>,
}

#[derive(Debug, Clone)]
enum Node {
    File(File),
    Folder(Folder),
}

/// What is below one folder: what the process sees, and what the disk has for certain.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    names: Names,
    /// The first is the folder itself.
    nodes: Vec<Node>,
    n_renamings: usize,
}

impl Disk {
    pub(super) fn empty(names: Names) -> Self {
        Self {
            names,
            nodes: vec![Node::Folder(Folder::default())],
            n_renamings: 0,
        }
    }

    /// Does what a call did; paths are below `root`.
    pub(super) fn apply(&mut self, call: &Call, root: &Path) {
        let within = |path: &Path| path.strip_prefix(root).unwrap().to_owned();
        match call {
            Call::MakeFolder(path) => self.make(&within(path), Node::Folder(Folder::default())),
            Call::Open { path, is_emptied } => {
                let path = within(path);
                if self.find(&path).is_none() {
                    self.make(&path, Node::File(File::default()));
                }
                let file = self.file(&path);
                file.position = 0;
                if *is_emptied && !file.now.is_empty() {
                    file.change(Change::Resize(0));
                }
            }
            Call::Write { path, at, bytes } => {
                let file = self.file(&within(path));
                let at = at.unwrap_or_else(|| {
                    file.position += bytes.len();
                    file.position - bytes.len()
                });
                let bytes = bytes.clone();
                file.change(Change::Write { at, bytes });
            }
            Call::Seek { path, to } => self.file(&within(path)).position = *to,
            Call::Resize { path, length } => {
                self.file(&within(path)).change(Change::Resize(*length));
            }
            Call::Sync(path) => self.sync(&within(path)),
            Call::Rename { from, to } => {
                let (from, to) = (within(from), within(to));
                assert_eq!(from.parent(), to.parent(), "a move is not modelled");
                let node = self.find(&from).unwrap();
                self.rename(&to, Some(&from), Some(node));
            }
            Call::Remove(path) => self.rename(&within(path), Some(&within(path)), None),
        }
    }

    fn find(&self, path: &Path) -> Option<usize> {
        path.iter()
            .try_fold(0, |node, name| match &self.nodes[node] {
                Node::Folder(folder) => folder.now.get(name.to_str().unwrap()).copied(),
                Node::File(_) => None,
            })
    }

    fn file(&mut self, path: &Path) -> &mut File {
        let node = self.find(path);
        match node.map(|it| &mut self.nodes[it]) {
            Some(Node::File(file)) => file,
            _ => panic!("no file at {}", path.display()),
        }
    }

    fn make(&mut self, path: &Path, node: Node) {
        if path.as_os_str().is_empty() {
            return;
        }
        self.nodes.push(node);
        self.rename(path, None, Some(self.nodes.len() - 1));
    }

    /// Changes names in the folder of `path`: `gone` out of it, and `path` to `node`.
    fn rename(&mut self, path: &Path, gone: Option<&Path>, node: Option<usize>) {
        let name = |it: &Path| it.file_name().unwrap().to_str().unwrap().to_owned();
        let renaming = Renaming {
            gone: gone.map(name),
            new: node.map(|it| (name(path), it)),
            nth: self.n_renamings,
        };
        self.n_renamings += 1;
        let folder = self.find(path.parent().unwrap()).unwrap();
        let Node::Folder(folder) = &mut self.nodes[folder] else {
            panic!("no folder around {}", path.display())
        };
        renaming.apply(&mut folder.now);
        folder.changes.push(renaming);
    }

    fn sync(&mut self, path: &Path) {
        // What has lost its name, such as a file that was removed while open, is lost anyway.
        let Some(synced) = self.find(path) else {
            return;
        };
        for (index, node) in self.nodes.iter_mut().enumerate() {
            match node {
                Node::File(file) if index == synced => {
                    file.synced.clone_from(&file.now);
                    file.changes.clear();
                }
                Node::Folder(folder) if index == synced || self.names == Names::Journal => {
                    folder.synced.clone_from(&folder.now);
                    folder.changes.clear();
                }
                _ => {}
            }
        }
    }

    /// Writes into `to` what the disk may have when the power goes now.
    pub(super) fn leave(&self, draws: &mut Draws, to: &Path) {
        // Of the changes of names that are only in the journal's memory, the first few.
        let last = draws.below(self.n_renamings + 1);
        self.leave_folder(0, last, draws, to);
    }

    fn leave_folder(&self, node: usize, last: usize, draws: &mut Draws, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        let Node::Folder(folder) = &self.nodes[node] else {
            panic!("no folder")
        };
        let mut entries = folder.synced.clone();
        let keeps_all = draws.below(3) == 0;
        for change in &folder.changes {
            let is_kept = match self.names {
                Names::Journal => change.nth < last,
                Names::Free => keeps_all || draws.below(2) == 0,
            };
            if is_kept {
                change.apply(&mut entries);
            }
        }
        for (name, node) in entries {
            let path = to.join(name);
            match &self.nodes[node] {
                Node::File(file) => std::fs::write(path, file.left(draws)).unwrap(),
                Node::Folder(_) => self.leave_folder(node, last, draws, &path),
            }
        }
    }
}

impl File {
    fn change(&mut self, change: Change) {
        apply(&change, &mut self.now);
        self.changes.push(change);
    }

    /// What of the changes since the last sync is there.
    fn left(&self, draws: &mut Draws) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        let n = self.changes.len();
        let (kind, first) = (draws.below(4), draws.below(n + 1));
        for (nth, change) in self.changes.iter().enumerate() {
            let is_kept = match kind {
                0 => false,
                1 => true,
                2 => nth < first,
                _ => draws.below(2) == 0,
            };
            if is_kept {
                apply(&torn(change, self.synced.len(), draws), &mut bytes);
            }
        }
        bytes
    }
}

/// A write of which a part may be missing or, behind the old end, be zeros.
fn torn(change: &Change, old_length: usize, draws: &mut Draws) -> Change {
    let Change::Write { at, bytes } = change else {
        return change.clone();
    };
    let (mut at, mut bytes) = (*at, bytes.clone());
    match draws.below(8) {
        0 if old_length <= at => bytes.fill(0),
        1 => {
            let n_sectors = bytes.len().div_ceil(SECTOR);
            bytes.truncate(draws.below(n_sectors) * SECTOR);
        }
        2 => {
            let cut = draws.below(bytes.len().div_ceil(SECTOR)) * SECTOR;
            bytes.drain(..cut);
            at += cut;
        }
        _ => {}
    }
    Change::Write { at, bytes }
}

fn apply(change: &Change, to: &mut Vec<u8>) {
    match change {
        Change::Write { at, bytes } => {
            if to.len() < at + bytes.len() {
                to.resize(at + bytes.len(), 0);
            }
            to[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Resize(length) => to.resize(*length, 0),
    }
}

#[test]
fn what_was_synced_is_always_there_and_nothing_else_is() {
    let root = Path::new("/r");
    let path = |name: &str| root.join(name);
    let write = |name: &str, text: &str| Call::Write {
        path: path(name),
        at: None,
        bytes: text.into(),
    };
    let open = |name: &str| Call::Open {
        path: path(name),
        is_emptied: true,
    };
    let calls = [
        open("a"),
        write("a", "first"),
        Call::Sync(path("a")),
        Call::Sync(path("")),
        write("a", " second"),
        open("b"),
        write("b", "other"),
        Call::Sync(path("b")),
        Call::Rename {
            from: path("b"),
            to: path("a"),
        },
    ];
    for names in [Names::Journal, Names::Free] {
        let mut disk = Disk::empty(names);
        for call in &calls {
            disk.apply(call, root);
        }
        let mut seen = std::collections::BTreeSet::new();
        let mut draws = Draws::new(1);
        for _ in 0..500 {
            let left = tempfile::tempdir().unwrap();
            disk.leave(&mut draws, left.path());
            let a = std::fs::read_to_string(left.path().join("a")).unwrap();
            let has_b = left.path().join("b").exists();
            seen.insert((a.replace('\0', "0"), has_b));
        }
        let has = |a: &str, has_b: bool| seen.contains(&(a.to_owned(), has_b));
        assert!(has("first", names == Names::Journal), "{seen:?}");
        assert!(has("first second", true) && has("other", false), "{seen:?}");
        assert!(has("first0000000", true), "{seen:?}");
        // A name that was not synced may be lost, but not where the sync of its file wrote it.
        assert_eq!(has("first second", false), names == Names::Free, "{seen:?}");
        assert!(
            seen.iter()
                .all(|it| it.0.starts_with("first") || it.0 == "other")
        );
    }
}
