mod cgroup;
mod data;
mod histogram;
mod report;
