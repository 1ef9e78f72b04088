//! The system calls that no library makes for us: all the unsafe code of the command.

use std::io;

fn checked(result: i64) -> io::Result<i64> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Sends a signal to a process that was not waited for yet.
pub(super) fn signal(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill touches no memory of ours.
    #[expect(unsafe_code, reason = "a C function")]
    let sent = unsafe { libc::kill(pid, signal) };
    checked(sent.into()).map(drop)
}

/// Limits a resource of this process to `bytes`, so that what goes beyond fails.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn limit(resource: libc::__rlimit_resource_t, bytes: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: it reads `limit`, which lives until it returns.
    #[expect(unsafe_code, reason = "a C function")]
    let set = unsafe { libc::setrlimit(resource, &raw const limit) };
    checked(set.into()).map(drop)
}

/// Lets every write beyond `bytes` of a file end the process.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn limit_file_size_by_death(bytes: u64) -> io::Result<()> {
    limit(libc::RLIMIT_CORE, 0)?;
    limit(libc::RLIMIT_FSIZE, bytes)
}

/// Lets every write beyond `bytes` of a file fail with EFBIG.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn limit_file_size(bytes: u64) -> io::Result<()> {
    // SAFETY: no handler of ours is installed; the signal is ignored, and the write fails instead.
    #[expect(unsafe_code, reason = "a C function")]
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
    limit(libc::RLIMIT_FSIZE, bytes)
}

/// Lets every allocation fail once the process has `bytes` of address space.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn limit_memory(bytes: u64) -> io::Result<()> {
    limit(libc::RLIMIT_AS, bytes)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn limit_file_size_by_death(_: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn limit_file_size(_: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn limit_memory(_: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
/// Runs `hook` in the new process before its program begins.
fn before_exec(command: &mut std::process::Command, hook: fn() -> io::Result<()>) {
    // SAFETY: the hooks of this file make system calls only: they allocate nothing and take no lock, as the process
    // between fork and exec requires.
    #[expect(unsafe_code, reason = "what runs between fork and exec is not checked by the compiler")]
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(command, hook);
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) mod trace {
    //! ptrace and seccomp: a process stops before each system call of a list.

    use super::super::fate::Call;
    use super::*;

    /// The architecture in a seccomp filter's data, and the calls under other names than on other machines.
    #[cfg(target_arch = "x86_64")]
    mod machine {
        pub(super) const AUDIT_ARCH: u32 = 0xC000_003E;
        pub(super) const OLD_CALLS: [(super::Call, i64); 3] = [
            (super::Call::Rename, libc::SYS_rename),
            (super::Call::Unlink, libc::SYS_unlink),
            (super::Call::Mkdir, libc::SYS_mkdir),
        ];
    }
    #[cfg(target_arch = "aarch64")]
    mod machine {
        pub(super) const AUDIT_ARCH: u32 = 0xC000_00B7;
        pub(super) const OLD_CALLS: [(super::Call, i64); 0] = [];
    }

    const CALLS: [(Call, i64); 15] = [
        (Call::Pwrite, libc::SYS_pwrite64),
        (Call::StartWriteback, libc::SYS_sync_file_range),
        (Call::Fdatasync, libc::SYS_fdatasync),
        (Call::Fsync, libc::SYS_fsync),
        (Call::Open, libc::SYS_openat),
        (Call::Rename, libc::SYS_renameat),
        (Call::Rename, libc::SYS_renameat2),
        (Call::Unlink, libc::SYS_unlinkat),
        (Call::Ftruncate, libc::SYS_ftruncate),
        (Call::Lock, libc::SYS_flock),
        (Call::Lock, libc::SYS_fcntl),
        (Call::Fallocate, libc::SYS_fallocate),
        (Call::Mkdir, libc::SYS_mkdirat),
        (Call::Pwrite, libc::SYS_pwritev2),
        (Call::Submit, libc::SYS_io_uring_enter),
    ];

    fn calls() -> impl Iterator<Item = (Call, i64)> {
        CALLS.into_iter().chain(machine::OLD_CALLS)
    }

    /// A system call that a stopped thread is about to make.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Entry {
        pub(crate) call: Call,
        pub(crate) number: i64,
        pub(crate) arguments: [u64; 6],
    }

    impl Entry {
        /// Whether the first argument is an open file, and which of them is a path otherwise.
        pub(crate) fn path_argument(&self) -> Option<usize> {
            match self.call {
                Call::Open => Some(1),
                Call::Rename | Call::Unlink | Call::Mkdir => {
                    Some(usize::from(CALLS.iter().any(|(_, number)| *number == self.number)))
                }
                _ => None,
            }
        }
    }

    /// Why a process that is traced by this thread has stopped.
    #[derive(Clone, Copy, Debug)]
    pub(crate) enum Stop {
        Exited(i32),
        Killed(i32),
        /// Before one of the calls.
        Entry,
        /// After the call that it was let into.
        Return,
        /// A new program or thread.
        Other,
        Signal(i32),
    }

    /// Has the process that `command` starts traced by the thread that starts it.
    pub(crate) fn trace(command: &mut std::process::Command) {
        before_exec(command, || {
            // SAFETY: PTRACE_TRACEME takes no other argument.
            #[expect(unsafe_code, reason = "a C function")]
            let traced = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
            checked(traced).map(drop)
        });
    }

    /// In the traced process: from now on every thread stops before each call of the list.
    pub(crate) fn stop_at_calls() -> io::Result<()> {
        const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
        const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
        const RETURN: u16 = 0x06; // BPF_RET | BPF_K
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let number = |number: i64| u32::try_from(number).map_err(io::Error::other);
        let mut filter = vec![step(LOAD, 0, 0, 4), step(EQUAL, 1, 0, machine::AUDIT_ARCH)];
        filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
        filter.push(step(LOAD, 0, 0, 0));
        for (_, call) in calls() {
            filter.push(step(EQUAL, 0, 1, number(call)?));
            filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_TRACE));
        }
        filter.push(step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
        let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
        let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
        // SAFETY: the filter and the program, which the second call reads, live until it returns.
        #[expect(unsafe_code, reason = "C functions")]
        unsafe {
            checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into())?;
            let mode = libc::SECCOMP_MODE_FILTER;
            checked(libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0).into())?;
        }
        Ok(())
    }

    fn ptrace(request: u32, pid: i32, address: usize, data: usize) -> io::Result<i64> {
        // SAFETY: the callers pass, as `data`, a number or the address of what the request reads or fills, and that
        // outlives the call. The traced process is a child of ours that is there to be killed.
        #[expect(unsafe_code, reason = "a C function")]
        let done = unsafe { libc::ptrace(request, pid, address, data) };
        checked(done)
    }

    /// After the first stop: threads are traced, too, and all die with this process.
    pub(crate) fn follow(pid: i32) -> io::Result<()> {
        let options = libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACESECCOMP
            | libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_EXITKILL;
        let options = usize::try_from(options).map_err(io::Error::other)?;
        ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options).map(drop)
    }

    /// Waits for any thread traced by this thread to stop or end.
    pub(crate) fn wait() -> io::Result<(i32, Stop)> {
        let mut status = 0;
        let pid = loop {
            // SAFETY: it fills `status`, which lives until it returns.
            #[expect(unsafe_code, reason = "a C function")]
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
            match checked(pid.into()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.map(|_| pid)?,
            }
        };
        let stop = if libc::WIFEXITED(status) {
            Stop::Exited(libc::WEXITSTATUS(status))
        } else if libc::WIFSIGNALED(status) {
            Stop::Killed(libc::WTERMSIG(status))
        } else if status >> 16 == libc::PTRACE_EVENT_SECCOMP {
            Stop::Entry
        } else if libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80 {
            Stop::Return
        } else if status >> 16 != 0 || [libc::SIGTRAP, libc::SIGSTOP].contains(&libc::WSTOPSIG(status)) {
            Stop::Other
        } else {
            Stop::Signal(libc::WSTOPSIG(status))
        };
        Ok((pid, stop))
    }

    /// Lets a stopped thread go on, to the return of the call it is about to make if asked, with a signal if any.
    pub(crate) fn resume(pid: i32, to_return: bool, signal: i32) -> io::Result<()> {
        let request = if to_return { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        let signal = usize::try_from(signal).map_err(io::Error::other)?;
        match ptrace(request, pid, 0, signal) {
            // Killed meanwhile; the wait will tell.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done.map(drop),
        }
    }

    /// The call that a thread stopped at its entry is about to make; `None` if it is none of the list.
    pub(crate) fn entry(pid: i32) -> io::Result<Option<Entry>> {
        let registers = registers(pid)?;
        let (number, arguments) = registers.call();
        // Of the many uses of fcntl only those that lock.
        const LOCKS: [libc::c_int; 4] = [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
        let other_fcntl =
            number == libc::SYS_fcntl && !LOCKS.iter().any(|lock| u64::try_from(*lock) == Ok(arguments[1]));
        let call = calls().find(|(_, listed)| *listed == number && !other_fcntl);
        Ok(call.map(|(call, _)| Entry { call, number, arguments }))
    }

    /// Has a thread stopped at an entry write only `count` bytes.
    pub(crate) fn set_count(pid: i32, count: u64) -> io::Result<()> {
        let mut registers = registers(pid)?;
        registers.set_count(count);
        registers.store(pid)
    }

    /// Has a thread stopped at an entry make no call at all.
    pub(crate) fn skip(pid: i32) -> io::Result<()> {
        machine_skip(pid)
    }

    /// Has the call that just returned return `result`; a count that was changed is put back.
    pub(crate) fn set_result(pid: i32, result: Option<i64>, count: Option<u64>) -> io::Result<()> {
        let mut registers = registers(pid)?;
        if let Some(result) = result {
            registers.set_result(result);
        }
        if let Some(count) = count {
            registers.set_count(count);
        }
        registers.store(pid)
    }

    struct Registers(libc::user_regs_struct);

    fn registers(pid: i32) -> io::Result<Registers> {
        // SAFETY: a struct of integers, for which zeros are valid.
        #[expect(unsafe_code, reason = "a C struct without a constructor")]
        let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        access(libc::PTRACE_GETREGSET, pid, &mut registers)?;
        Ok(Registers(registers))
    }

    /// Reads or writes all registers.
    fn access(request: u32, pid: i32, registers: &mut libc::user_regs_struct) -> io::Result<()> {
        const NT_PRSTATUS: usize = 1;
        let mut vector = libc::iovec {
            iov_base: std::ptr::from_mut(registers).cast(),
            iov_len: size_of::<libc::user_regs_struct>(),
        };
        ptrace(request, pid, NT_PRSTATUS, std::ptr::from_mut(&mut vector) as usize).map(drop)
    }

    impl Registers {
        fn store(mut self, pid: i32) -> io::Result<()> {
            access(libc::PTRACE_SETREGSET, pid, &mut self.0)
        }
    }

    #[cfg(target_arch = "x86_64")]
    impl Registers {
        fn call(&self) -> (i64, [u64; 6]) {
            let r = &self.0;
            (r.orig_rax.cast_signed(), [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9])
        }

        fn set_count(&mut self, count: u64) {
            self.0.rdx = count;
        }

        fn set_result(&mut self, result: i64) {
            self.0.rax = result.cast_unsigned();
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn machine_skip(pid: i32) -> io::Result<()> {
        let mut registers = registers(pid)?;
        registers.0.orig_rax = u64::MAX;
        registers.store(pid)
    }

    #[cfg(target_arch = "aarch64")]
    impl Registers {
        fn call(&self) -> (i64, [u64; 6]) {
            let x = &self.0.regs;
            (x[8].cast_signed(), [x[0], x[1], x[2], x[3], x[4], x[5]])
        }

        fn set_count(&mut self, count: u64) {
            self.0.regs[2] = count;
        }

        fn set_result(&mut self, result: i64) {
            self.0.regs[0] = result.cast_unsigned();
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn machine_skip(pid: i32) -> io::Result<()> {
        const NT_ARM_SYSTEM_CALL: usize = 0x404;
        let mut number: libc::c_int = -1;
        let mut vector =
            libc::iovec { iov_base: std::ptr::from_mut(&mut number).cast(), iov_len: size_of::<libc::c_int>() };
        let vector = std::ptr::from_mut(&mut vector) as usize;
        ptrace(libc::PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, vector).map(drop)
    }
}
