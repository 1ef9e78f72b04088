//! What a log file should be before it is used: one 128-byte pwrite and fdatasync after another, into a file that
//! grows, one that was fallocated, one filled with zeros, one filled with a pattern, and one that is written over.
//!
//! `cargo bench --bench preallocation [-- DIR]`. Interleaved rounds, medians; ratios are to the growing file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "the rest is for benchmarks of the engine")]
mod common;
#[path = "common/place.rs"]
#[expect(dead_code, reason = "workloads are chosen in the benchmark of the commit modes alone")]
mod place;

use place::{Place, Request, Stop, failed, main_of};

const RECORD: usize = 128;
const SYNCS: usize = 2000;
const SIZE: usize = 1 << 20;
const ROUNDS: usize = 7;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    Growing,
    Fallocated,
    ZerosAtOnce,
    Zeros,
    Pattern,
    Recycled,
}

const LAYOUTS: [Layout; 6] =
    [Layout::Growing, Layout::Fallocated, Layout::ZerosAtOnce, Layout::Zeros, Layout::Pattern, Layout::Recycled];

fn prepare(path: &Path, layout: Layout) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    let pattern: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|word| word.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()).collect();
    let zeros = vec![0; SIZE];
    match layout {
        Layout::Growing => {}
        Layout::Fallocated => allocate(&file)?,
        Layout::ZerosAtOnce => file.write_all_at(&zeros, 0)?,
        Layout::Zeros => write_in_pieces(&file, &zeros)?,
        Layout::Pattern => write_in_pieces(&file, &pattern)?,
        Layout::Recycled => {
            write_in_pieces(&file, &zeros)?;
            file.sync_all()?;
            write_in_pieces(&file, &pattern)?;
        }
    }
    file.sync_all()?;
    File::open(path.parent().expect("a directory"))?.sync_all()?;
    Ok(file)
}

/// In pieces of 64 KiB, as the engine does: after larger writes some kernels cache the file in large units.
fn write_in_pieces(file: &File, bytes: &[u8]) -> std::io::Result<()> {
    let mut at = 0;
    for piece in bytes.chunks(64 << 10) {
        file.write_all_at(piece, at)?;
        at += piece.len() as u64;
    }
    Ok(())
}

#[cfg(target_os = "linux")]
fn allocate(file: &File) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    let size = i64::try_from(SIZE).expect("small");
    // SAFETY: a plain system call on a descriptor that is open for the whole call.
    #[expect(unsafe_code, reason = "fallocate has no safe binding in std")]
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File) -> std::io::Result<()> {
    file.set_len(SIZE as u64)
}

/// Syncs per second, and the median time of one.
fn measure(file: &File) -> std::io::Result<(f64, Duration)> {
    let record = [7; RECORD];
    let mut times = Vec::with_capacity(SYNCS);
    let start = Instant::now();
    for number in 0..SYNCS {
        let before = Instant::now();
        file.write_all_at(&record, (number * RECORD) as u64)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    let rate = SYNCS as f64 / start.elapsed().as_secs_f64();
    times.sort();
    Ok((rate, times[SYNCS / 2]))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(request: &Request) -> Result<(), Stop> {
    let place = Place::inside(&request.parent)?;
    let path = place.dir.join("records");
    let mut rates = vec![Vec::new(); LAYOUTS.len()];
    let mut ratios = vec![Vec::new(); LAYOUTS.len()];
    let mut medians = vec![Vec::new(); LAYOUTS.len()];
    for _ in 0..ROUNDS {
        let mut growing = 0.0;
        for (index, layout) in LAYOUTS.into_iter().enumerate() {
            let measured = prepare(&path, layout).and_then(|file| measure(&file));
            let (rate, time) = measured.map_err(|error| failed("write", &path, &error))?;
            if layout == Layout::Growing {
                growing = rate;
            }
            rates[index].push(rate);
            ratios[index].push(rate / growing);
            medians[index].push(time.as_secs_f64() * 1e6);
        }
    }
    println!("| layout | syncs/s | p50 us | ratio to growing |\n|---|---|---|---|");
    for (index, layout) in LAYOUTS.into_iter().enumerate() {
        let (rate, time, ratio) = (median(&mut rates[index]), median(&mut medians[index]), median(&mut ratios[index]));
        println!("| {layout:?} | {rate:.0} | {time:.0} | {ratio:.2} |");
    }
    Ok(())
}

fn main() -> ExitCode {
    main_of("preallocation", false, run)
}
