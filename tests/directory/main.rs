//! The directory of a database: its lock, and what becomes of it under an open engine.

mod lock_model;
