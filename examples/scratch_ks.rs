use forelog::*;
use std::time::Instant;
fn rss() -> u64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines().find(|l| l.starts_with("VmRSS")).unwrap().split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        / 1024
}
fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let _ = std::fs::remove_dir_all(&dir);
    let n: u64 = std::env::args().nth(2).unwrap().parse().unwrap();
    println!("rss before {}", rss());
    let t = Instant::now();
    let e = Options::new().memory_bytes(256 << 20).commit_mode(CommitMode::Async).open(&dir).unwrap();
    println!("open {:?} rss {}", t.elapsed(), rss());
    let t = Instant::now();
    for i in 0..n {
        let k = e.create_keyspace(&format!("tenant-{i}")).unwrap();
        let mut b = e.batch().unwrap();
        b.put(&k, b"a", b"1").unwrap();
        b.commit_with(CommitMode::Async).unwrap();
    }
    println!("create+put {:?} rss {} {:?}", t.elapsed(), rss(), e.memory_stats());
    e.flush().unwrap();
    let t = Instant::now();
    e.checkpoint().unwrap();
    println!("checkpoint {:?} rss {} {:?}", t.elapsed(), rss(), e.memory_stats());
    let t = Instant::now();
    e.checkpoint().unwrap();
    println!("2nd checkpoint {:?}", t.elapsed());
    for i in 0..10 {
        let k = e.open_keyspace(&format!("tenant-{}", i * 7)).unwrap();
        let mut b = e.batch().unwrap();
        b.put(&k, b"b", b"2").unwrap();
        b.commit_with(CommitMode::Sync).unwrap();
    }
    let t = Instant::now();
    e.checkpoint().unwrap();
    println!("small checkpoint {:?} {:?}", t.elapsed(), e.table_stats());
    let t = Instant::now();
    e.close().unwrap();
    drop(e);
    println!("close {:?} rss {}", t.elapsed(), rss());
    let t = Instant::now();
    let e = Options::new().memory_bytes(256 << 20).open(&dir).unwrap();
    println!("open {:?} rss {} {:?}", t.elapsed(), rss(), e.memory_stats());
    let t = Instant::now();
    let k = e.open_keyspace("tenant-77").unwrap();
    println!("get {:?} {:?}", e.snapshot().unwrap().get(&k, b"a").unwrap().is_some(), t.elapsed());
    std::thread::sleep(std::time::Duration::from_secs(5));
    println!("warm rss {} {:?}", rss(), e.memory_stats());
    let t = Instant::now();
    for i in 0..n / 2 {
        e.drop_keyspace(&format!("tenant-{}", i * 2)).unwrap();
    }
    println!("drop half {:?} rss {}", t.elapsed(), rss());
    let t = Instant::now();
    e.flush().unwrap();
    e.checkpoint().unwrap();
    println!("checkpoint {:?} rss {}", t.elapsed(), rss());
    println!("{:?}", e.memory_stats());
    let s = std::process::Command::new("du").arg("-sk").arg(&dir).output().unwrap();
    println!("{}", String::from_utf8_lossy(&s.stdout));
}
