use forelog::*;
use std::time::Instant;
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        / 1024
}
fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let t = Instant::now();
    let e = Options::new().memory_bytes(256 << 20).open(&dir).unwrap();
    println!("open {:?} rss {} {:?}", t.elapsed(), rss(), e.memory_stats());
    std::thread::sleep(std::time::Duration::from_secs(5));
    println!("warm rss {} {:?} all {}", rss(), e.memory_stats(), e.table_stats().all_in_memory);
}
