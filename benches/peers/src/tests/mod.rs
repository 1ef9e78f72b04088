mod check;
mod group;
mod raw;
mod report;
mod runner;
mod stats;
