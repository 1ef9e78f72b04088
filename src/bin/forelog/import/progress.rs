//! The progress of an import. It is written in the transaction of the rows that it counts, so that the two always
//! agree.

use serde_json::{Value, json};

use super::source::Identity;

/// The keyspace for progress.
pub(super) const KEYSPACE: &str = "forelog.import";

/// The progress of one file's import into one keyspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Progress {
    pub(super) file: Identity,
    pub(super) key_column: String,
    /// The number of rows imported: always the first ones of the file.
    pub(super) rows: u64,
    pub(super) done: bool,
}

impl Progress {
    /// The key of the progress: a JSON array, so that no two pairs of names have the same key.
    pub(super) fn key(keyspace: &str, file_name: &str) -> String {
        json!([keyspace, file_name]).to_string()
    }

    pub(super) fn to_json(&self) -> String {
        json!({
            "bytes": self.file.bytes,
            "crc32": self.file.crc32,
            "key": self.key_column,
            "rows": self.rows,
            "done": self.done,
        })
        .to_string()
    }

    /// Reads the output of [`Progress::to_json`]; `None` for other bytes.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let crc32 = u32::try_from(value["crc32"].as_u64()?).ok()?;
        Some(Progress {
            file: Identity { bytes: value["bytes"].as_u64()?, crc32 },
            key_column: value["key"].as_str()?.to_owned(),
            rows: value["rows"].as_u64()?,
            done: value["done"].as_bool()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_back_and_nothing_else_does() {
        let file = Identity { bytes: 3_960_755, crc32: u32::MAX };
        let progress = Progress { file, key_column: "id".into(), rows: 7, done: false };
        assert_eq!(Progress::parse(progress.to_json().as_bytes()), Some(progress));
        assert_eq!(Progress::parse(b"{}"), None);
        assert_eq!(Progress::parse(b"\xff"), None);
    }

    #[test]
    fn names_do_not_run_into_each_other() {
        assert_ne!(Progress::key("a", "b\",\"c"), Progress::key("a\",\"b", "c"));
    }
}
