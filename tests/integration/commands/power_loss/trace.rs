//! What a process asked of the file system, read from what `strace -f -y -xx` wrote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The calls that change files or folders, and those after which a change is on the disk.
pub(super) const CALLS: &str = "trace=openat,open,creat,mkdir,mkdirat,rmdir,write,writev,pwrite64,\
    pwritev,pwritev2,lseek,fsync,fdatasync,sync_file_range,rename,renameat,renameat2,truncate,\
    ftruncate,fallocate,link,linkat,symlink,symlinkat,unlink,unlinkat,copy_file_range,sendfile,\
    mmap";

/// One call, as far as it may change what is below the watched folder.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Call {
    MakeFolder(PathBuf),
    /// Makes the file if there is none, and empties it if it is to be.
    Open {
        path: PathBuf,
        is_emptied: bool,
    },
    /// Where no place is given, behind what was written last.
    Write {
        path: PathBuf,
        at: Option<usize>,
        bytes: Vec<u8>,
    },
    Seek {
        path: PathBuf,
        to: usize,
    },
    Resize {
        path: PathBuf,
        length: usize,
    },
    Sync(PathBuf),
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove(PathBuf),
}

/// The calls of `log` below `root`, in the order in which they ended; relative paths are those
/// of a process that works in `folder`.
pub(super) fn calls(log: &str, folder: &Path, root: &Path) -> Vec<Call> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in log.lines() {
        let (process, rest) = line.split_once(' ').unwrap();
        let rest = rest.trim_start();
        if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(process, start);
            continue;
        }
        let whole = match rest.strip_prefix("<... ") {
            Some(end) => {
                let (_, end) = end.split_once(" resumed>").unwrap();
                format!("{}{end}", begun.remove(process).unwrap())
            }
            None => rest.to_owned(),
        };
        calls.extend(call(&whole, folder).filter(|it| it.path().starts_with(root)));
    }
    calls
}

impl Call {
    fn path(&self) -> &Path {
        match self {
            Self::MakeFolder(path)
            | Self::Open { path, .. }
            | Self::Write { path, .. }
            | Self::Seek { path, .. }
            | Self::Resize { path, .. }
            | Self::Sync(path)
            | Self::Rename { to: path, .. }
            | Self::Remove(path) => path,
        }
    }
}

/// A call that came to a good end and may matter.
fn call(line: &str, folder: &Path) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(") ")?;
    let result = result.trim_start().strip_prefix("= ")?;
    if result.starts_with('-') {
        return None;
    }
    let numbers = || -> Vec<usize> {
        let words = arguments.rsplit(", ");
        words.map_while(|it| it.parse().ok()).collect()
    };
    let named = || folder.join(text(&quoted(arguments)[0]));
    let opened = || folder.join(text(&of_descriptor(arguments).unwrap()));
    Some(match name {
        "mkdir" | "mkdirat" => Call::MakeFolder(named()),
        "openat" | "open" | "creat" if arguments.contains("O_CREAT") => Call::Open {
            path: named(),
            is_emptied: arguments.contains("O_TRUNC"),
        },
        // What is mapped is SQLite's index of its log, which it makes anew, and no file.
        "openat" | "open" | "creat" | "mmap" => return None,
        "write" => Call::Write {
            path: opened(),
            at: None,
            bytes: written(arguments, result),
        },
        "pwrite64" => Call::Write {
            path: opened(),
            at: Some(numbers()[0]),
            bytes: written(arguments, result),
        },
        "lseek" => Call::Seek {
            path: opened(),
            to: result.parse().unwrap(),
        },
        "ftruncate" => Call::Resize {
            path: opened(),
            length: numbers()[0],
        },
        "fsync" | "fdatasync" => Call::Sync(opened()),
        "rename" | "renameat" | "renameat2" => {
            let [from, to] = &quoted(arguments)[..] else {
                panic!("{line}")
            };
            let [from, to] = [from, to].map(|it| folder.join(text(it)));
            Call::Rename { from, to }
        }
        "unlink" | "unlinkat" => Call::Remove(named()),
        _ => panic!("not modelled: {}", &line[..line.len().min(200)]),
    })
}

/// What was written of what was to be.
fn written(arguments: &str, result: &str) -> Vec<u8> {
    let mut bytes = quoted(arguments).remove(0);
    bytes.truncate(result.parse().unwrap());
    bytes
}

/// The texts between quotation marks, every byte of which is written as `\x41`.
fn quoted(arguments: &str) -> Vec<Vec<u8>> {
    assert!(!arguments.contains("\"..."), "strace cut a text short");
    let texts = arguments.split('"').skip(1).step_by(2);
    texts.map(bytes).collect()
}

/// The file of the first descriptor, as in `3<\x2f\x61>`.
fn of_descriptor(arguments: &str) -> Option<Vec<u8>> {
    let (_, rest) = arguments.split_once('<')?;
    Some(bytes(rest.split_once('>')?.0))
}

fn bytes(escaped: &str) -> Vec<u8> {
    let digits = escaped.split("\\x").skip(1);
    digits
        .map(|it| u8::from_str_radix(it, 16).unwrap())
        .collect()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn calls_are_read_from_what_strace_writes() {
    // `/r/a`, `r/a` and `/r/b`, by a process that works in `/`; the first call is cut in two by
    // another thread, and one fails.
    let log = r#"7 openat(AT_FDCWD<\x2f>, "\x72\x2f\x61", O_WRONLY|O_CREAT|O_TRUNC, 0666 <unfinished ...>
8 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0) = 0x7f
7 <... openat resumed>) = 3<\x2f\x72\x2f\x61>
7 write(3<\x2f\x72\x2f\x61>, "\x61\x62", 2) = 1
7 pwrite64(3<\x2f\x72\x2f\x61>, "\x63", 1, 9) = 1
7 mkdir("\x72", 0777)                = -1 EEXIST (File exists)
7 fsync(3<\x2f\x72\x2f\x61>)         = 0
7 write(1<\x2f\x64>, "\x61", 1)      = 1
7 renameat(AT_FDCWD<\x2f>, "\x2f\x72\x2f\x61", AT_FDCWD<\x2f>, "\x2f\x72\x2f\x62") = 0
7 +++ exited with 0 +++"#;
    let [a, b] = ["/r/a", "/r/b"].map(PathBuf::from);
    let write = |at, bytes: &[u8]| Call::Write {
        path: a.clone(),
        at,
        bytes: bytes.to_vec(),
    };
    let expected = [
        Call::Open {
            path: a.clone(),
            is_emptied: true,
        },
        write(None, b"a"),
        write(Some(9), b"c"),
        Call::Sync(a.clone()),
        Call::Rename {
            from: a.clone(),
            to: b,
        },
    ];
    assert_eq!(calls(log, Path::new("/"), Path::new("/r")), expected);
}
