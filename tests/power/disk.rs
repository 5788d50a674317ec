//! A disk that tells what has been flushed: a layer between SQLite and its files.
//!
//! It is the system's own VFS with four methods looked at on their way: writing, cutting, flushing
//! and closing. Of each database and log it keeps what a loss of power leaves for certain, and what
//! came after. Nothing is really flushed.

#![allow(unsafe_code, reason = "SQLite's file layers are C")]

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{CStr, c_char, c_int, c_void},
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, Once, PoisonError},
};

use rusqlite::ffi;

/// What became of the writes that were not flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// All are lost.
    All,
    /// The later half is lost.
    Half,
    /// The later half is lost, and of the write before them the end.
    Torn,
}

/// A write that was not flushed.
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

/// What is known of one file.
#[derive(Default)]
struct Watched {
    flushed: Vec<u8>,
    since: Vec<Change>,
    flushes: u64,
    /// How often its first byte was written.
    begun: u64,
}

/// An open file: the methods that its own layer has for it, and where it is.
struct Handle {
    methods: usize,
    path: PathBuf,
}

#[derive(Default)]
struct Disk {
    files: BTreeMap<PathBuf, Watched>,
    /// By the address of SQLite's handle.
    handles: HashMap<usize, Handle>,
    /// Ours by the address of the original's.
    methods: HashMap<usize, usize>,
}

static DISK: Mutex<Option<Disk>> = Mutex::new(None);
static ORIGINAL: Mutex<usize> = Mutex::new(0);

/// The files of one store, as a loss of power leaves them.
pub struct Image {
    database: PathBuf,
    content: Vec<u8>,
    log: Vec<u8>,
}

/// What was flushed so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flushes {
    /// How often the log was.
    pub log: u64,
    /// How often the log was written back into the file, or begun anew.
    pub others: u64,
}

/// Watches all stores that are opened from now on.
pub fn watch() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        *disk() = Some(Disk::default());
        // SAFETY: SQLite gives its default layer, which stays for as long as the process. The copy
        // is leaked, so it stays as well.
        unsafe {
            let original = ffi::sqlite3_vfs_find(std::ptr::null());
            *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner) = original as usize;
            let copy = ffi::sqlite3_vfs {
                zName: c"watched".as_ptr(),
                pNext: std::ptr::null_mut(),
                xOpen: Some(open),
                ..*original
            };
            assert_eq!(ffi::sqlite3_vfs_register(Box::leak(Box::new(copy)), 1), ffi::SQLITE_OK);
        }
    });
}

/// What the power going off now would leave of a store.
pub fn image(store: &Path, lost: Lost) -> Image {
    let database = store.join("matrix-mls.db");
    let disk = disk();
    let left = |path: &Path| {
        let files = disk.as_ref().map(|disk| &disk.files);
        files.and_then(|files| files.get(path)).map(|file| file.left(lost)).unwrap_or_default()
    };
    Image { content: left(&database), log: left(&log_of(&database)), database }
}

/// What of a store was flushed so far.
pub fn flushes(store: &Path) -> Flushes {
    let database = store.join("matrix-mls.db");
    let disk = disk();
    let watched = |path: &Path| disk.as_ref().and_then(|disk| disk.files.get(path));
    let (log, database) = (watched(&log_of(&database)), watched(&database));
    let begun = log.map_or(0, |log| log.begun);
    Flushes {
        log: log.map_or(0, |log| log.flushes),
        others: begun + database.map_or(0, |file| file.flushes),
    }
}

impl Image {
    /// Puts the files there. The store must be closed.
    pub fn put(self) -> io::Result<()> {
        // The same file as before: another would be a copy of the store.
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&self.database)?;
        file.write_all(&self.content)?;
        fs::write(log_of(&self.database), &self.log)?;
        if let Some(disk) = &mut *disk() {
            disk.files.remove(&log_of(&self.database));
            disk.files.remove(&self.database);
        }
        match fs::remove_file(with_suffix(&self.database, "-shm")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Watched {
    fn left(&self, lost: Lost) -> Vec<u8> {
        let mut content = self.flushed.clone();
        let kept = match lost {
            Lost::All => 0,
            Lost::Half | Lost::Torn => self.since.len() / 2,
        };
        for (number, change) in self.since[..kept].iter().enumerate() {
            match change {
                Change::Write { at, bytes } if lost == Lost::Torn && number + 1 == kept => {
                    write_into(&mut content, *at, &bytes[..bytes.len() / 2]);
                }
                change => change.apply(&mut content),
            }
        }
        content
    }

    fn flush(&mut self) {
        for change in std::mem::take(&mut self.since) {
            change.apply(&mut self.flushed);
        }
        self.flushes += 1;
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { at, bytes } => write_into(content, *at, bytes),
            Self::Cut(length) => content.resize(*length, 0),
        }
    }
}

fn write_into(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

fn log_of(database: &Path) -> PathBuf {
    with_suffix(database, "-wal")
}

fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", database.display()))
}

fn disk() -> MutexGuard<'static, Option<Disk>> {
    DISK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does something to what is known of an open file; gives the methods of its own layer.
fn with_file(
    file: *mut ffi::sqlite3_file,
    change: impl FnOnce(&mut Watched),
) -> *const ffi::sqlite3_io_methods {
    let mut disk = disk();
    let Some(disk) = &mut *disk else { return std::ptr::null() };
    let Some(handle) = disk.handles.get(&(file as usize)) else { return std::ptr::null() };
    change(disk.files.entry(handle.path.clone()).or_default());
    handle.methods as *const ffi::sqlite3_io_methods
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let original = *ORIGINAL.lock().unwrap_or_else(PoisonError::into_inner);
    let original = original as *mut ffi::sqlite3_vfs;
    // SAFETY: the arguments are SQLite's, for a layer of which this is a copy.
    unsafe {
        let Some(real) = (*original).xOpen else { return ffi::SQLITE_ERROR };
        let code = real(original, name, file, flags, flags_out);
        if code == ffi::SQLITE_OK && !name.is_null() && !(*file).pMethods.is_null() {
            watch_file(CStr::from_ptr(name as *const c_char), file);
        }
        code
    }
}

/// Watches an open file from now on, if it is a store's.
unsafe fn watch_file(name: &CStr, file: *mut ffi::sqlite3_file) {
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name != "matrix-mls.db" && name != "matrix-mls.db-wal" {
        return;
    }
    let mut disk = disk();
    let Some(disk) = &mut *disk else { return };
    // SAFETY: SQLite's own layer has just opened the file.
    let methods = unsafe { (*file).pMethods };
    let ours = *disk.methods.entry(methods as usize).or_insert_with(|| {
        // SAFETY: the methods of a layer stay for as long as the process.
        let copy = ffi::sqlite3_io_methods {
            xWrite: Some(write),
            xTruncate: Some(cut),
            xSync: Some(flush),
            xClose: Some(close),
            ..unsafe { *methods }
        };
        Box::leak(Box::new(copy)) as *const _ as usize
    });
    disk.files.entry(path.clone()).or_insert_with(|| Watched {
        flushed: fs::read(&path).unwrap_or_default(),
        ..Watched::default()
    });
    disk.handles.insert(file as usize, Handle { methods: methods as usize, path });
    // SAFETY: as above. The copy has the same methods, but for those that call them in turn.
    unsafe { (*file).pMethods = ours as *const ffi::sqlite3_io_methods };
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    length: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite gives so many bytes, and a file that was opened here.
    unsafe {
        let written = std::slice::from_raw_parts(bytes.cast::<u8>(), length as usize);
        let methods = with_file(file, |watched| {
            watched.begun += u64::from(at == 0);
            watched.since.push(Change::Write { at: at as usize, bytes: written.to_vec() });
        });
        match methods.as_ref().and_then(|methods| methods.xWrite) {
            Some(real) => real(file, bytes, length, at),
            None => ffi::SQLITE_IOERR_WRITE,
        }
    }
}

unsafe extern "C" fn cut(file: *mut ffi::sqlite3_file, length: ffi::sqlite3_int64) -> c_int {
    let methods = with_file(file, |watched| watched.since.push(Change::Cut(length as usize)));
    // SAFETY: the file was opened here.
    match unsafe { methods.as_ref() }.and_then(|methods| methods.xTruncate) {
        Some(real) => unsafe { real(file, length) },
        None => ffi::SQLITE_IOERR_TRUNCATE,
    }
}

unsafe extern "C" fn flush(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    with_file(file, Watched::flush);
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let methods = with_file(file, |_| {});
    if let Some(disk) = &mut *disk() {
        disk.handles.remove(&(file as usize));
    }
    // SAFETY: the file was opened here.
    match unsafe { methods.as_ref() }.and_then(|methods| methods.xClose) {
        Some(real) => unsafe { real(file) },
        None => ffi::SQLITE_IOERR_CLOSE,
    }
}
