//! A bank over HTTP, in which each transfer says how durable it must be before it is answered.
//!
//! ```text
//! cargo run --release -p forelog-programs --bin bank -- [--db DIR] [--listen 127.0.0.1:7878]
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `POST /transfer?commit=sync` with `{"from": "alice", "to": "bob", "amount": 5}` | the token of the commit, whether it is durable, both balances. `commit` is `sync`, `written`, `async` or `within:5ms`. With a header `Idempotency-Key` it is done once, however often it is sent |
//! | `GET /outcome/TOKEN` | what became of that commit: `durable`, `lost`, `pending`, .. after any number of crashes |
//! | `GET /account/NAME` | its balance |
//! | `GET /events`, `GET /events?token=TOKEN&token=..` | server-sent events: `status` when the watermarks have moved, `outcome` when the fate of a token is known |
//! | `GET /` | a page that shows all of this |
//!
//! An account that is not known has 100. Everything is bounded: connections, their idle time, the size of a request.

mod accounts;
mod events;
mod limits;
mod reply;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use forelog::{Engine, Token};
use serde::Deserialize;
use serde_json::json;

use accounts::{Bank, Transfer};
use reply::Refused;

/// The most bytes of a request's body: a transfer has less than a hundred.
const BODY: usize = 4 << 10;

struct Arguments {
    db: PathBuf,
    listen: SocketAddr,
}

impl Arguments {
    fn parse() -> Result<Self, String> {
        let mut parsed = Arguments { db: "bank".into(), listen: SocketAddr::from(([127, 0, 0, 1], 7878)) };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{argument} needs a value"))?;
            match argument.as_str() {
                "--db" => parsed.db = value.into(),
                "--listen" => parsed.listen = value.parse().map_err(|_| format!("{value} is no address and port"))?,
                other => return Err(format!("unknown argument {other}: there are --db DIR and --listen ADDRESS:PORT")),
            }
        }
        Ok(parsed)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse()?;
    let engine = Engine::open(&arguments.db)?;
    let bank = Arc::new(Bank::open(&engine)?);
    let listener = limits::Listener::bind(arguments.listen).await?;
    // A test, or a person who has asked for port 0, reads this.
    println!("listening on http://{}", axum::serve::Listener::local_addr(&listener)?);
    let status = events::follow(&engine)?;
    let app = Router::new()
        .route("/", get(async || Html(include_str!("page.html"))))
        .route("/transfer", post(transfer))
        .route("/outcome/{token}", get(outcome))
        .route("/account/{name}", get(account))
        .route("/events", get(events::events))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(App { bank, status });
    axum::serve(listener, app).await?;
    Ok(())
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) bank: Arc<Bank>,
    pub(crate) status: events::Status,
}

#[derive(Deserialize)]
struct Commit {
    /// As text, so that what is wrong with it is said.
    commit: Option<String>,
}

async fn transfer(
    State(app): State<App>,
    Query(Commit { commit }): Query<Commit>,
    headers: HeaderMap,
    Json(transfer): Json<Transfer>,
) -> Result<Response, Refused> {
    // `within=5ms` is what one writes in a URL.
    let mode = commit.map_or(Ok(forelog::CommitMode::Sync), |text| text.replacen('=', ":", 1).parse())?;
    let key = headers.get("idempotency-key").map(|key| key.as_bytes().to_vec());
    let done = app.bank.transfer(&transfer, key, mode).await?;
    let answer = json!({
        "token": done.receipt.token(),
        "lsn": done.receipt.lsn(),
        "commit": mode,
        "durable": done.receipt.is_durable(),
        "repeated": done.is_repeated,
        "result": done.result,
    });
    Ok(Json(answer).into_response())
}

async fn outcome(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Refused> {
    let token: Token = token.parse()?;
    Ok(Json(json!({ "outcome": app.bank.engine().outcome(&token)? })).into_response())
}

async fn account(State(app): State<App>, Path(name): Path<String>) -> Result<Response, Refused> {
    Ok(Json(json!({ "account": name, "balance": app.bank.balance(&name)? })).into_response())
}
