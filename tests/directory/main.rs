//! The directory of a database: its lock, and what becomes of it under an open engine.

mod beside;
mod beside_machine;
mod beside_model;
mod copies;
mod ground;
mod layers;
mod lock_machine;
mod lock_model;
mod moved;
mod obstacles;
mod openers;
mod race;
mod read_later;
mod tampered;
mod traces;
