//! Reading operations from bytes that nobody has checked.

use super::op::{Op, check_bound_len, check_key_len, check_name_len, check_range, check_value_len};
use super::refused::{Malformed, Reason};
use super::{CREATE_KEYSPACE, DELETE, DELETE_RANGE, DROP_KEYSPACE, PUT, TO_THE_END, UP_TO};

/// A position in unchecked bytes.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn op(&mut self) -> Result<Op<'a>, Malformed> {
        let start = self.at;
        let tag = self.byte()?;
        if !(PUT..=DELETE_RANGE).contains(&tag) {
            return Err(Malformed { offset: start, reason: Reason::Tag(tag) });
        }
        let keyspace = self.varint()?;
        Ok(match tag {
            PUT => Op::Put { keyspace, key: self.field(check_key_len)?, value: self.field(check_value_len)? },
            DELETE => Op::Delete { keyspace, key: self.field(check_key_len)? },
            CREATE_KEYSPACE => Op::CreateKeyspace { keyspace, name: self.name()? },
            DROP_KEYSPACE => Op::DropKeyspace { keyspace },
            _ => self.range(keyspace)?,
        })
    }

    fn range(&mut self, keyspace: u32) -> Result<Op<'a>, Malformed> {
        let offset = self.at;
        let form = self.byte()?;
        if form != TO_THE_END && form != UP_TO {
            return Err(Malformed { offset, reason: Reason::Form(form) });
        }
        let from = self.field(check_bound_len)?;
        let to = if form == UP_TO { Some(self.field(check_bound_len)?) } else { None };
        check_range(from, to).map_err(|reason| Malformed { offset, reason })?;
        Ok(Op::DeleteRange { keyspace, from, to })
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let offset = self.at;
        let bytes = self.field(check_name_len)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed { offset, reason: Reason::NameEncoding })
    }

    fn field(&mut self, check: fn(usize) -> Result<(), Reason>) -> Result<&'a [u8], Malformed> {
        let offset = self.at;
        let len = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        check(len).map_err(|reason| Malformed { offset, reason })?;
        let rest = &self.bytes[self.at..];
        let field = rest.get(..len).ok_or(Malformed { offset, reason: Reason::Truncated })?;
        self.at += len;
        Ok(field)
    }

    fn varint(&mut self) -> Result<u32, Malformed> {
        let offset = self.at;
        let mut number = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            let low = u32::from(byte & 0x7F);
            if shift == 28 && byte > 0x0F {
                return Err(Malformed { offset, reason: Reason::TooLarge });
            }
            number |= low << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded { Err(Malformed { offset, reason: Reason::NotMinimal }) } else { Ok(number) };
            }
        }
        Err(Malformed { offset, reason: Reason::TooLarge })
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed { offset: self.at, reason: Reason::Truncated })?;
        self.at += 1;
        Ok(byte)
    }
}
