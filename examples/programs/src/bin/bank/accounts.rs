//! The accounts, and transfers between them.

use forelog::requests::Requests;
use forelog::typed::TypedKeyspace;
use forelog::{CommitMode, Engine, Receipt, Result, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an account has that is not known.
const UNKNOWN: i64 = 100;
/// The longest name, in bytes.
const NAME: usize = 64;

/// What a client asks for.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) amount: u32,
}

/// What became of it.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome<'t> {
    Moved { from: i64, to: i64 },
    Refused(&'t str),
}

/// A transfer that was committed.
pub(crate) struct Done {
    pub(crate) receipt: Receipt,
    pub(crate) result: Value,
    pub(crate) is_repeated: bool,
}

pub(crate) struct Bank {
    engine: Engine,
    accounts: TypedKeyspace<String, i64>,
    /// Those that came with a key, for a day or so.
    requests: Requests,
}

impl Bank {
    pub(crate) fn open(engine: &Engine) -> Result<Self> {
        let accounts = TypedKeyspace::create(engine, "accounts")?;
        let requests = Requests::open(engine, "requests", 1_000_000)?;
        Ok(Bank { engine: engine.clone(), accounts, requests })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn balance(&self, name: &str) -> Result<i64> {
        Ok(self.engine.snapshot()?.typed(&self.accounts).get(name)?.unwrap_or(UNKNOWN))
    }

    /// Does it, once if it has a key. What is refused for want of money is an answer as well, and stays one.
    pub(crate) async fn transfer(&self, transfer: &Transfer, key: Option<Vec<u8>>, mode: CommitMode) -> Result<Done> {
        let body = |tx: &mut Transaction| self.move_money(tx, transfer);
        let (reply, receipt, is_repeated) = match key {
            Some(key) => {
                let reply = self.requests.transact_async(key, mode, body).await?;
                (reply.body.to_vec(), reply.receipt, reply.is_repeated)
            }
            None => {
                let (reply, receipt) = self.engine.transact_async(mode, body).await?;
                (reply, receipt, false)
            }
        };
        let result = serde_json::from_slice(&reply).unwrap_or_default();
        Ok(Done { receipt, result, is_repeated })
    }

    fn move_money(&self, tx: &mut Transaction, transfer: &Transfer) -> Result<Vec<u8>> {
        let Transfer { from, to, amount } = transfer;
        let mut accounts = tx.typed(&self.accounts);
        let mut balance = |name: &str| accounts.get(name).map(|balance| balance.unwrap_or(UNKNOWN));
        let (before_from, before_to) = (balance(from)?, balance(to)?);
        let amount = i64::from(*amount);
        let outcome = if from.is_empty() || to.is_empty() || from.len().max(to.len()) > NAME {
            Outcome::Refused("a name has 1 to 64 bytes")
        } else if from == to {
            Outcome::Refused("from and to are the same account")
        } else if before_from < amount {
            Outcome::Refused("there is too little")
        } else {
            let (from_has, to_has) = (before_from - amount, before_to.saturating_add(amount));
            accounts.put(from, &from_has)?;
            accounts.put(to, &to_has)?;
            Outcome::Moved { from: from_has, to: to_has }
        };
        Ok(serde_json::to_vec(&outcome).unwrap_or_default())
    }
}
