use super::{files_of, limits_of, memory, total_of};

#[test]
fn groups_and_those_above_them_are_looked_at() {
    let paths = |line| files_of(line).map(|paths| paths.iter().map(|path| path.display().to_string()).collect());
    let two: Vec<String> = paths("0::/a/b").unwrap();
    let root = "/sys/fs/cgroup";
    assert_eq!(two, [format!("{root}/a/b/memory.max"), format!("{root}/a/memory.max"), format!("{root}/memory.max")]);
    let one: Vec<String> = paths("4:cpu,memory:/x").unwrap();
    let root = "/sys/fs/cgroup/memory";
    assert_eq!(one, [format!("{root}/x/memory.limit_in_bytes"), format!("{root}/memory.limit_in_bytes")]);
    assert_eq!(files_of("4:cpu,cpuacct:/x"), None);
    assert_eq!(files_of("what"), None);
}

#[test]
fn the_machine_has_memory() {
    assert_eq!(total_of("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
    assert_eq!(total_of("MemTotal: much"), None);
    if cfg!(target_os = "linux") {
        assert!(memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}

#[test]
fn limits_of_the_process_are_looked_at() {
    let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
        Max cpu time              unlimited            unlimited            seconds   \n\
        Max data size             4096                 unlimited            bytes     \n\
        Max stack size            8388608              unlimited            bytes     \n\
        Max address space         1048576              2097152              bytes     \n";
    assert_eq!(limits_of(text).collect::<Vec<_>>(), [4096, 1 << 20]);
    assert_eq!(limits_of(&text.replace("4096   ", "unlimited")).collect::<Vec<_>>(), [1 << 20]);
    assert_eq!(limits_of("").count(), 0);
}
