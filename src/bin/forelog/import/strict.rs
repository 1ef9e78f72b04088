//! Refuses a CSV file where a reader would have to guess the meaning: a quote that is never closed, a quote inside a
//! field, text behind a closing quote, what joining files leaves between them. It follows the bytes as they are read,
//! beside the reader.

/// The longest row: a row is in memory, and a quote that is never closed makes the rest of the file one row.
const MAX_ROW: u64 = 64 << 20;

/// What is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Flaw {
    /// From 1; 0 is the header.
    pub(super) row: u64,
    /// From 1.
    pub(super) line: u64,
    pub(super) what: &'static str,
}

/// The state between two bytes of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    Begin,
    Bare,
    Quoted,
    /// Behind a quote in a quoted field: the quote closes the field, or is the first half of a doubled one.
    Quote,
}

/// The line ending of rows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    /// A line feed, with or without a carriage return before it.
    LineFeed,
    /// A carriage return alone.
    Return,
}

/// The state of the check.
#[derive(Debug)]
pub(super) struct Strict {
    /// Report only flaws that no reading can accept.
    lenient: bool,
    at: At,
    /// Bytes read.
    offset: u64,
    row: u64,
    line: u64,
    /// Bytes of the current row.
    row_bytes: u64,
    /// The line in which the last quoted field began...
    quoted_at: u64,
    /// ...and whether that field has a line break.
    breaks: bool,
    /// How many bytes of a byte order mark the row begins with.
    mark: usize,
    /// Whether the last byte was a carriage return outside of quotes.
    after_return: bool,
    ends: Option<Ends>,
    /// The line of the first blank line before this row.
    blank: Option<u64>,
    flaw: Option<Flaw>,
}

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];
const CTRL_Z: u8 = 0x1A;

/// The bytes that a step has to look at within a field.
const IS_SPECIAL: [bool; 256] = {
    let (mut is_special, special, mut index) = ([false; 256], [b'"', b',', b'\r', b'\n', 0, CTRL_Z], 0);
    while index < special.len() {
        is_special[special[index] as usize] = true;
        index += 1;
    }
    is_special
};

impl Strict {
    pub(super) fn new(lenient: bool) -> Self {
        Strict {
            lenient,
            at: At::Begin,
            offset: 0,
            row: 0,
            line: 1,
            row_bytes: 0,
            quoted_at: 1,
            breaks: false,
            mark: 0,
            after_return: false,
            ends: None,
            blank: None,
            flaw: None,
        }
    }

    /// Follows the next bytes. Returns the first flaw of the file so far.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Option<&Flaw> {
        let mut rest = bytes;
        while let Some((&byte, behind)) = rest.split_first()
            && self.flaw.is_none()
        {
            self.step(byte);
            self.offset += 1;
            rest = &behind[self.pass_plain(behind)..];
        }
        self.flaw.as_ref()
    }

    /// Passes the bytes that change nothing but the counts, which most do. Returns how many.
    fn pass_plain(&mut self, bytes: &[u8]) -> usize {
        let is_within = matches!(self.at, At::Bare | At::Quoted) && !self.after_return && self.flaw.is_none();
        // The first bytes of a row may be a byte order mark, and a row that is too long is found by a step.
        if !is_within || self.row_bytes < BOM.len() as u64 {
            return 0;
        }
        let room = usize::try_from(MAX_ROW - self.row_bytes).unwrap_or(0);
        let plain = bytes.iter().take(room).take_while(|byte| !IS_SPECIAL[usize::from(**byte)]).count();
        self.row_bytes += plain as u64;
        self.offset += plain as u64;
        plain
    }

    /// Ends the check at the end of the file.
    pub(super) fn finish(&mut self) -> Option<&Flaw> {
        if self.after_return {
            self.after_return = false;
            self.end_row(Ends::Return);
        }
        if self.at == At::Quoted {
            self.line = self.quoted_at;
            self.find("a field is opened with a quote that is never closed");
        }
        self.flaw.as_ref()
    }

    fn step(&mut self, byte: u8) {
        if self.offset < 3 && self.is_in_mark(byte) {
            return;
        }
        if std::mem::take(&mut self.after_return) {
            if byte == b'\n' {
                self.end_row(Ends::LineFeed);
                return;
            }
            self.end_row(Ends::Return);
        }
        if self.at != At::Quoted && matches!(byte, b'\r' | b'\n') {
            self.after_return = byte == b'\r';
            if byte == b'\n' {
                self.end_row(Ends::LineFeed);
            }
            return;
        }
        if self.row_bytes == 0
            && let Some(line) = self.blank.take()
        {
            self.guess_at(line, "a blank line between the rows");
        }
        if BOM.get(self.mark) == Some(&byte) && self.row_bytes == self.mark as u64 {
            self.mark += 1;
            if self.mark == BOM.len() {
                self.guess("a byte order mark at the begin of a row: were files joined?");
            }
        }
        self.row_bytes += 1;
        if self.row_bytes > MAX_ROW {
            self.line = self.quoted_at;
            self.find("a row of more than 64 MiB: is a quote never closed?");
        }
        if byte == 0 {
            self.guess("a NUL byte: is this UTF-16? The file must be UTF-8");
        }
        if byte == CTRL_Z && self.at != At::Quoted {
            self.guess("a Ctrl-Z, with which programs for DOS end a file");
        }
        self.field(byte);
    }

    /// Updates the state within the row for one byte.
    fn field(&mut self, byte: u8) {
        self.at = match (self.at, byte) {
            (At::Begin, b'"') => {
                self.quoted_at = self.line;
                self.breaks = false;
                At::Quoted
            }
            (At::Quoted, b'"') => At::Quote,
            (At::Quote, b'"') => At::Quoted,
            (At::Quoted, _) => {
                self.line += u64::from(byte == b'\n');
                self.breaks |= matches!(byte, b'\n' | b'\r');
                At::Quoted
            }
            (_, b',') => At::Begin,
            // That quote may as well open a field of a later row: then everything between is a wrong guess.
            (At::Quote, _) if self.breaks => {
                self.line = self.quoted_at;
                self.find(
                    "text behind the closing quote of a field of several lines: is its first quote never closed?",
                );
                At::Bare
            }
            (At::Quote, _) => {
                self.guess("text behind the closing quote of a field");
                At::Bare
            }
            (At::Bare, b'"') => {
                self.guess("a quote inside a field that does not begin with one");
                At::Bare
            }
            (At::Begin | At::Bare, _) => At::Bare,
        };
    }

    /// Whether the byte belongs to a byte order mark. The reader skips the one of UTF-8.
    fn is_in_mark(&mut self, byte: u8) -> bool {
        if self.offset == 0 && matches!(byte, 0xFE | 0xFF) {
            self.find("this is UTF-16: the file must be UTF-8");
        }
        let place = usize::try_from(self.offset).unwrap_or(usize::MAX);
        self.row_bytes == 0 && BOM.get(place) == Some(&byte)
    }

    fn end_row(&mut self, ends: Ends) {
        let first = *self.ends.get_or_insert(ends);
        if first != ends {
            self.guess("rows end in two ways: some with a line feed, others with a carriage return alone");
        }
        if self.row_bytes == 0 {
            self.blank.get_or_insert(self.line);
        } else {
            self.row += 1;
        }
        self.line += 1;
        self.row_bytes = 0;
        self.mark = 0;
        self.at = At::Begin;
    }

    /// Notes a flaw that a lenient reading accepts.
    fn guess(&mut self, what: &'static str) {
        self.guess_at(self.line, what);
    }

    fn guess_at(&mut self, line: u64, what: &'static str) {
        if !self.lenient {
            self.flaw.get_or_insert(Flaw { row: self.row, line, what });
        }
    }

    fn find(&mut self, what: &'static str) {
        self.flaw.get_or_insert(Flaw { row: self.row, line: self.line, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flaw_of(text: &[u8], lenient: bool) -> Option<(u64, u64, &'static str)> {
        let mut found = Vec::new();
        // The result is the same in one piece and byte by byte.
        for piece in [text.len().max(1), 1] {
            let mut strict = Strict::new(lenient);
            for bytes in text.chunks(piece) {
                strict.follow(bytes);
            }
            found.push(strict.finish().map(|flaw| (flaw.row, flaw.line, flaw.what)));
        }
        assert_eq!(found[0], found[1]);
        found[0]
    }

    #[test]
    fn what_is_whole_has_no_flaw() {
        let whole: [&[u8]; 15] = [
            b"id,name\n1,\"\x1A\"\n",
            b"id,name\n1,a\xEF\xBB\xBF\n\xEF\xBB,\n",
            b"id,name\n1,\"a\nb\",\"c\"\n",
            b"",
            b"id,name\n1,a\n2,b\n",
            b"id,name\r\n1,a\r\n2,b",
            b"id,name\r1,a\r2,b\r",
            b"id,name\r\n1,a\n2,b\r\n",
            b"\xEF\xBB\xBFid,name\n1,a\n",
            b"\xEF\xBB\xBF\"id\",name\n1,a\n",
            b"id,name\n1,\"two\nlines \r and a \"\"quote\"\"\"\n",
            b"id,name\n\"\",\"\"\n1,\"\"\"\"\n",
            b"id\n1\n\n\n",
            b"id,name\n1,\"a\"",
            b"\xEFd,name\n1,a\n",
        ];
        for text in whole {
            assert_eq!(flaw_of(text, false), None, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn each_flaw_is_found_with_its_row_and_line() {
        let flaws: [(&[u8], u64, u64, &str); 18] = [
            (b"id,name\n1,\"open\n2,b\n3,\"c\"\n", 1, 2, "never closed"),
            (b"id,name\n1,\"open\r2,b\r3,\"c\"\r", 1, 2, "never closed"),
            (b"id,name\n1,a\n\xEF\xBB\xBFid,name\n", 2, 3, "byte order mark"),
            (b"id,name\n1,a\n\xEF\xBB\xBF\"2\",b\n", 2, 3, "byte order mark"),
            (b"\xEF\xBB\xBF\xEF\xBB\xBFid\n", 0, 1, "byte order mark"),
            (b"id,name\n1,a\n\x1A", 2, 3, "Ctrl-Z"),
            (b"id,name\n1,\"a\"\x1A", 1, 2, "Ctrl-Z"),
            (b"id,name\n1,\"open\n2,b\n3,c\n", 1, 2, "never closed"),
            (b"id,name\n1,a\n2,\"", 2, 3, "never closed"),
            (b"id,name\n1,a \"quoted\" word\n", 1, 2, "inside a field"),
            (b"id,name\n1, \"a\"\n", 1, 2, "inside a field"),
            (b"id,name\n1,\"a\" b\n", 1, 2, "behind the closing quote"),
            (b"id,name\n1,\"two\nlines\"\n2,\"a\"b\n", 2, 4, "behind the closing quote"),
            (b"id,name\n1,a\0\n", 1, 2, "NUL"),
            (b"\xFF\xFEi\0d\0", 0, 1, "UTF-16"),
            (b"id,name\n1,a\r2,b\n", 1, 2, "two ways"),
            (b"id,name\n1,a\n\n2,b\n", 2, 3, "blank line"),
            (b"i\"d,name\n", 0, 1, "inside a field"),
        ];
        for (text, row, line, what) in flaws {
            let found = flaw_of(text, false).unwrap_or_else(|| panic!("{what}: nothing found"));
            assert!((found.0, found.1) == (row, line) && found.2.contains(what), "{what}: {found:?}");
            let always = what.contains("never closed") || what.contains("UTF-16");
            assert_eq!(flaw_of(text, true).is_some(), always, "{what}");
        }
    }

    #[test]
    fn a_row_without_end_is_found_before_it_fills_the_memory() {
        let mut strict = Strict::new(true);
        strict.follow(b"id,name\n1,\"");
        let piece = vec![b'x'; 1 << 20];
        let pieces = (0..100).take_while(|_| strict.follow(&piece).is_none()).count();
        assert_eq!(pieces, 63);
    }

    /// Whatever stands in a field and behind it, in one piece and byte by byte.
    #[test]
    fn what_is_passed_over_changes_nothing_but_the_counts() {
        const BYTES: [u8; 8] = [b'a', b'"', b',', b'\n', b'\r', 0, CTRL_Z, BOM[0]];
        for begin in [&b"id\nabc"[..], b"id\n\"abc"] {
            for number in 0..BYTES.len().pow(5) {
                let behind = (0..5).map(|place| BYTES[number / BYTES.len().pow(place) % BYTES.len()]);
                let text: Vec<u8> = begin.iter().copied().chain(behind).collect();
                let (mut whole, mut single) = (Strict::new(true), Strict::new(true));
                whole.follow(&text);
                text.chunks(1).for_each(|byte| _ = single.follow(byte));
                assert_eq!(format!("{whole:?}"), format!("{single:?}"), "{}", text.escape_ascii());
            }
        }
    }
}
