mod check;
mod raw;
mod report;
mod runner;
mod stats;
