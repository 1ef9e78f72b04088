//! RocksDB: the distribution's shared library, through its C interface, loaded at run time.

use std::ffi::{CStr, CString, c_char, c_int, c_uchar, c_void};
use std::ptr::{null_mut, slice_from_raw_parts};
use std::sync::Arc;

use libloading::Library;

use crate::common::KEY_BYTES;
use crate::peer::{
    ASK_EACH, Abilities, Kind, Mode, Peer, Purpose, Put, Reader, Reads, Result, Session, Setting, Shares, Store,
};

pub const PEER: Peer = Peer {
    name: "rocksdb",
    kind: Kind::Engine,
    package: None,
    sync: Some("one Put (or Write of a WriteBatch) with WriteOptions.sync"),
    written: Some("WriteOptions.sync = false: the log is written at each write"),
    asynchronous: Some("manual_wal_flush = true: the log is written when its buffer is full, never synced"),
    can: Abilities { mixed: true, awaited: false, replays: true },
    reads: Some(Reads::OneSnapshot),
    advice: "defaults; its documentation advises WriteOptions.sync for durability and batches of writes for speed; \
             reads: 512 MiB of block cache, a snapshot each thread; reopen and reads: a memtable of 2 GiB, so that all is in the log",
    limited: Some(|Shares { cache, writes, .. }| {
        format!(
            "WriteOptions.sync = false; block cache {} MiB with indexes and filters in it, {FILTER_BITS} bits of filter a key, \
             write_buffer_size {} MiB, db_write_buffer_size {} MiB",
            cache >> 20,
            writes >> 21,
            writes >> 20
        )
    }),
    installed: || Ok(format!("{} (C interface)", library()?.1)),
    open: |setting: &Setting| Ok(Box::new(Opened::open(setting)?)),
};

/// The names of the library: with the development package, in Debian 12 and in Debian 13.
const NAMES: [&str; 3] = ["librocksdb.so", "librocksdb.so.7.8", "librocksdb.so.9.10"];

/// The library with the name by which it was found.
#[expect(unsafe_code, reason = "the library is foreign")]
fn library() -> Result<(Library, &'static str)> {
    for name in NAMES {
        // SAFETY: what RocksDB does when it is loaded is sound in any process.
        if let Ok(library) = unsafe { Library::new(name) } {
            return Ok((library, name));
        }
    }
    Err("its library is not installed: apt-get install librocksdb7.8 (Debian 12), or librocksdb-dev".into())
}

/// The functions of the C interface that are used here, under their names without `rocksdb_`.
macro_rules! interface {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        struct Api {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            /// Keeps the functions where they are.
            _library: Library,
        }

        impl Api {
            #[expect(unsafe_code, reason = "the library is foreign")]
            fn load() -> Result<Self> {
                let (library, _) = library()?;
                Ok(Api {
                    // SAFETY: the types are those that RocksDB's `c.h` declares, unchanged since its version 7.
                    $($name: unsafe { *library.get(concat!("rocksdb_", stringify!($name)).as_bytes())? },)*
                    _library: library,
                })
            }
        }
    };
}

interface! {
    options_create: fn() -> *mut c_void;
    options_destroy: fn(*mut c_void);
    options_set_create_if_missing: fn(*mut c_void, c_uchar);
    options_set_manual_wal_flush: fn(*mut c_void, c_uchar);
    options_set_write_buffer_size: fn(*mut c_void, usize);
    options_set_db_write_buffer_size: fn(*mut c_void, usize);
    options_set_block_based_table_factory: fn(*mut c_void, *mut c_void);
    block_based_options_create: fn() -> *mut c_void;
    block_based_options_destroy: fn(*mut c_void);
    block_based_options_set_block_cache: fn(*mut c_void, *mut c_void);
    block_based_options_set_cache_index_and_filter_blocks: fn(*mut c_void, c_uchar);
    block_based_options_set_filter_policy: fn(*mut c_void, *mut c_void);
    filterpolicy_create_bloom: fn(f64) -> *mut c_void;
    cache_create_lru: fn(usize) -> *mut c_void;
    cache_destroy: fn(*mut c_void);
    open: fn(*const c_void, *const c_char, *mut *mut c_char) -> *mut c_void;
    close: fn(*mut c_void);
    free: fn(*mut c_void);
    writeoptions_create: fn() -> *mut c_void;
    writeoptions_destroy: fn(*mut c_void);
    writeoptions_set_sync: fn(*mut c_void, c_uchar);
    put: fn(*mut c_void, *const c_void, *const u8, usize, *const u8, usize, *mut *mut c_char);
    writebatch_create: fn() -> *mut c_void;
    writebatch_destroy: fn(*mut c_void);
    writebatch_clear: fn(*mut c_void);
    writebatch_delete: fn(*mut c_void, *const u8, usize);
    writebatch_put: fn(*mut c_void, *const u8, usize, *const u8, usize);
    write: fn(*mut c_void, *const c_void, *mut c_void, *mut *mut c_char);
    flush_wal: fn(*mut c_void, c_uchar, *mut *mut c_char);
    readoptions_create: fn() -> *mut c_void;
    readoptions_destroy: fn(*mut c_void);
    readoptions_set_snapshot: fn(*mut c_void, *const c_void);
    create_snapshot: fn(*mut c_void) -> *const c_void;
    release_snapshot: fn(*mut c_void, *const c_void);
    get_pinned: fn(*mut c_void, *const c_void, *const u8, usize, *mut *mut c_char) -> *mut c_void;
    pinnableslice_value: fn(*const c_void, *mut usize) -> *const u8;
    pinnableslice_destroy: fn(*mut c_void);
    create_iterator: fn(*mut c_void, *const c_void) -> *mut c_void;
    iter_seek_to_first: fn(*mut c_void);
    iter_valid: fn(*const c_void) -> c_uchar;
    iter_next: fn(*mut c_void);
    iter_key: fn(*const c_void, *mut usize) -> *const u8;
    iter_value: fn(*const c_void, *mut usize) -> *const u8;
    iter_get_error: fn(*const c_void, *mut *mut c_char);
    iter_destroy: fn(*mut c_void);
}

impl Api {
    /// Calls with a place for an error, and takes the error from it.
    #[expect(unsafe_code, reason = "the error is foreign memory")]
    fn checked<T>(&self, call: impl FnOnce(*mut *mut c_char) -> T) -> Result<T> {
        let mut error: *mut c_char = null_mut();
        let result = call(&raw mut error);
        if error.is_null() {
            return Ok(result);
        }
        // SAFETY: a call that failed leaves a NUL-terminated text, which is the caller's to free.
        let told = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
        // SAFETY: as above; it is not used again.
        unsafe { (self.free)(error.cast()) };
        Err(told.into())
    }
}

/// As its tuning guide advises for point reads.
const FILTER_BITS: f64 = 10.0;

impl Api {
    /// Gives a database that is opened with these options a block cache; `has_filters` gives its tables filters, and counts
    /// them and the indexes in the cache.
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn set_cache(&self, options: *mut c_void, bytes: usize, has_filters: bool) {
        // SAFETY: each object is used between its creation and its destruction; the options keep what they need of it, and
        // own the filter policy.
        unsafe {
            let (table, cache) = ((self.block_based_options_create)(), (self.cache_create_lru)(bytes));
            (self.block_based_options_set_block_cache)(table, cache);
            if has_filters {
                (self.block_based_options_set_cache_index_and_filter_blocks)(table, 1);
                (self.block_based_options_set_filter_policy)(table, (self.filterpolicy_create_bloom)(FILTER_BITS));
            }
            (self.options_set_block_based_table_factory)(options, table);
            (self.cache_destroy)(cache);
            (self.block_based_options_destroy)(table);
        }
    }
}

struct Opened {
    api: Arc<Api>,
    database: *mut c_void,
    /// Without and with a sync.
    write_options: [*mut c_void; 2],
}

// SAFETY: a database and its write options may be used by many threads at once: RocksDB's documentation promises it.
#[expect(unsafe_code, reason = "the pointers are foreign")]
unsafe impl Send for Opened {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "the pointers are foreign")]
unsafe impl Sync for Opened {}

impl Opened {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn open(setting: &Setting) -> Result<Self> {
        let api = Arc::new(Api::load()?);
        let path = CString::new(setting.dir.to_str().ok_or("the directory's name is no UTF-8")?)?;
        let by_hand = matches!(setting.purpose, Purpose::Commits(Mode::Async) | Purpose::Mixed);
        // SAFETY: each object is used between its creation and its destruction; the database keeps what it needs of
        // the options.
        unsafe {
            let options = (api.options_create)();
            (api.options_set_create_if_missing)(options, 1);
            (api.options_set_manual_wal_flush)(options, by_hand.into());
            if matches!(setting.purpose, Purpose::LongLog | Purpose::Reads) {
                (api.options_set_write_buffer_size)(options, 2 << 30);
            }
            match setting.purpose {
                Purpose::Reads => api.set_cache(options, 512 << 20, false),
                Purpose::Limited { memory } => {
                    let shares = Shares::of(memory);
                    let writes = usize::try_from(shares.writes)?;
                    (api.options_set_write_buffer_size)(options, writes / 2);
                    (api.options_set_db_write_buffer_size)(options, writes);
                    api.set_cache(options, usize::try_from(shares.cache)?, true);
                }
                _ => {}
            }
            let database = api.checked(|error| (api.open)(options, path.as_ptr(), error));
            (api.options_destroy)(options);
            let write_options = [0, 1].map(|sync| {
                let options = (api.writeoptions_create)();
                (api.writeoptions_set_sync)(options, sync);
                options
            });
            Ok(Opened { database: database?, write_options, api })
        }
    }
}

impl Drop for Opened {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn drop(&mut self) {
        // SAFETY: sessions and readers borrow this, so nobody uses them any more.
        unsafe {
            for options in self.write_options {
                (self.api.writeoptions_destroy)(options);
            }
            (self.api.close)(self.database);
        }
    }
}

impl Store for Opened {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn session(&self) -> Result<Box<dyn Session + '_>> {
        // SAFETY: creates an object.
        let batch = unsafe { (self.api.writebatch_create)() };
        Ok(Box::new(OneSession { store: self, batch }))
    }

    #[expect(unsafe_code, reason = "the library is foreign")]
    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        // SAFETY: the database is open; the reader releases both before it is closed.
        unsafe {
            let (options, snapshot) = ((self.api.readoptions_create)(), (self.api.create_snapshot)(self.database));
            (self.api.readoptions_set_snapshot)(options, snapshot);
            Ok(Box::new(OneReader { store: self, options, snapshot }))
        }
    }

    #[expect(unsafe_code, reason = "the library is foreign")]
    fn flush(&self) -> Result<()> {
        // SAFETY: the database is open.
        self.api.checked(|error| unsafe { (self.api.flush_wal)(self.database, 0, error) })
    }
}

struct OneSession<'a> {
    store: &'a Opened,
    /// This thread's, empty between two commits.
    batch: *mut c_void,
}

impl Drop for OneSession<'_> {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn drop(&mut self) {
        // SAFETY: it is not used again.
        unsafe { (self.store.api.writebatch_destroy)(self.batch) };
    }
}

impl Session for OneSession<'_> {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn commit(&mut self, puts: &[Put], mode: Mode) -> Result<()> {
        let Opened { api, database, write_options } = self.store;
        let options = write_options[usize::from(mode == Mode::Sync)];
        if let [(key, value)] = puts {
            let (key, length) = (key.as_ptr(), key.len());
            // SAFETY: the slices outlive the call, which copies them; the database is open.
            return api.checked(|error| unsafe {
                (api.put)(*database, options, key, length, value.as_ptr(), value.len(), error);
            });
        }
        for (key, value) in puts {
            // SAFETY: the slices outlive the call, which copies them.
            unsafe { (api.writebatch_put)(self.batch, key.as_ptr(), key.len(), value.as_ptr(), value.len()) };
        }
        self.write(options)
    }

    #[expect(unsafe_code, reason = "the library is foreign")]
    fn delete(&mut self, keys: &[[u8; KEY_BYTES]], mode: Mode) -> Result<()> {
        for key in keys {
            // SAFETY: the key outlives the call, which copies it.
            unsafe { (self.store.api.writebatch_delete)(self.batch, key.as_ptr(), key.len()) };
        }
        self.write(self.store.write_options[usize::from(mode == Mode::Sync)])
    }
}

impl OneSession<'_> {
    /// Writes the batch and empties it.
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn write(&mut self, options: *const c_void) -> Result<()> {
        let Opened { api, database, .. } = self.store;
        // SAFETY: the database is open and the batch this thread's own.
        let written = api.checked(|error| unsafe { (api.write)(*database, options, self.batch, error) });
        // SAFETY: as above.
        unsafe { (api.writebatch_clear)(self.batch) };
        written
    }
}

struct OneReader<'a> {
    store: &'a Opened,
    options: *mut c_void,
    snapshot: *const c_void,
}

impl Drop for OneReader<'_> {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn drop(&mut self) {
        // SAFETY: neither is used again.
        unsafe {
            (self.store.api.readoptions_destroy)(self.options);
            (self.store.api.release_snapshot)(self.store.database, self.snapshot);
        }
    }
}

impl Reader for OneReader<'_> {
    #[expect(unsafe_code, reason = "the library is foreign")]
    fn get(&mut self, key: &[u8]) -> Result<Option<usize>> {
        let Opened { api, database, .. } = self.store;
        // SAFETY: the database is open and the key outlives the call.
        let found =
            api.checked(|error| unsafe { (api.get_pinned)(*database, self.options, key.as_ptr(), key.len(), error) })?;
        if found.is_null() {
            return Ok(None);
        }
        let mut length = 0;
        // SAFETY: the value is there until it is destroyed.
        unsafe {
            (api.pinnableslice_value)(found, &raw mut length);
            (api.pinnableslice_destroy)(found);
        }
        Ok(Some(length))
    }

    #[expect(unsafe_code, reason = "the library is foreign")]
    fn scan_until(&mut self, is_enough: &mut dyn FnMut(u64) -> bool) -> Result<u64> {
        let Opened { api, database, .. } = self.store;
        let (mut keys, mut lengths): (u64, [usize; 2]) = (0, [0; 2]);
        // SAFETY: the iterator is used between its creation and its destruction, on an open database; a key and a
        // value are there until it moves on.
        unsafe {
            let iterator = (api.create_iterator)(*database, self.options);
            (api.iter_seek_to_first)(iterator);
            while c_int::from((api.iter_valid)(iterator)) != 0 {
                let key = (api.iter_key)(iterator, &raw mut lengths[0]);
                let value = (api.iter_value)(iterator, &raw mut lengths[1]);
                std::hint::black_box((slice_from_raw_parts(key, lengths[0]), slice_from_raw_parts(value, lengths[1])));
                keys += 1;
                if keys % ASK_EACH == 0 && is_enough(keys) {
                    break;
                }
                (api.iter_next)(iterator);
            }
            let over = api.checked(|error| (api.iter_get_error)(iterator, error));
            (api.iter_destroy)(iterator);
            over?;
        }
        Ok(keys)
    }
}
