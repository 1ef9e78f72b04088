mod check;
mod raw;
mod report;
mod stats;
