//! Waits for durable commits in event loops: epoll, io_uring, mio, tokio's `AsyncFd`, each with nothing but `Engine::durable_fd`.
//!
//! `cargo run -p forelog-programs --bin loops`

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::VecDeque;
    use std::io;
    use std::os::fd::AsRawFd;

    use forelog::{CommitMode, DurableFd, Lsn, Receipt};
    use forelog_programs::{Database, async_fd};

    /// Commits that are not durable yet, oldest first: what a server owes replies for.
    struct Owed(VecDeque<Receipt>);

    impl Owed {
        /// Commits a hundred, none of which is waited for.
        fn commits(database: &Database) -> forelog::Result<Self> {
            let commit = |number: u32| {
                let mut batch = database.engine.batch()?;
                batch.put(&database.events, number.to_be_bytes(), "happened")?;
                batch.commit_with(CommitMode::Async)
            };
            (0..100).map(commit).collect::<forelog::Result<_>>().map(Owed)
        }

        /// Replies to all that are durable now; returns whether any is left.
        fn reply_up_to(&mut self, durable: Lsn) -> bool {
            while self.0.front().is_some_and(|receipt| receipt.lsn() <= durable) {
                self.0.pop_front();
            }
            !self.0.is_empty()
        }
    }

    /// A wait, which a signal or the kernel's own work may end early: then the loop looks again.
    fn or_early<T>(waited: io::Result<T>) -> io::Result<()> {
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn epoll(durable: &DurableFd, owed: &mut Owed) -> io::Result<()> {
        use rustix::event::epoll;
        let queue = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&queue, durable, epoll::EventData::new_u64(1), epoll::EventFlags::IN)?;
        while owed.reply_up_to(durable.take().map_err(io::Error::other)?) {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 8];
            or_early(epoll::wait(&queue, &mut events[..], None).map_err(io::Error::from))?;
        }
        Ok(())
    }

    fn uring(durable: &DurableFd, owed: &mut Owed) -> io::Result<()> {
        let mut ring = match io_uring::IoUring::new(8) {
            Ok(ring) => ring,
            // Containers forbid it, often.
            Err(error) => {
                println!("io_uring: not here ({error})");
                return poll_once_more(durable, owed);
            }
        };
        const POLL_IN: u32 = 1;
        while owed.reply_up_to(durable.take().map_err(io::Error::other)?) {
            let poll = io_uring::opcode::PollAdd::new(io_uring::types::Fd(durable.as_raw_fd()), POLL_IN).build();
            // SAFETY: the entry names a descriptor that outlives the wait below, and no memory.
            #[expect(unsafe_code, reason = "io_uring has no safe way to submit")]
            unsafe {
                ring.submission().push(&poll).map_err(io::Error::other)?;
            }
            or_early(ring.submit_and_wait(1))?;
            ring.completion().for_each(drop);
        }
        Ok(())
    }

    fn poll_once_more(durable: &DurableFd, owed: &mut Owed) -> io::Result<()> {
        use rustix::event::{PollFd, PollFlags, poll};
        while owed.reply_up_to(durable.take().map_err(io::Error::other)?) {
            or_early(poll(&mut [PollFd::new(durable, PollFlags::IN)], None).map_err(io::Error::from))?;
        }
        Ok(())
    }

    fn mio(durable: &DurableFd, owed: &mut Owed) -> io::Result<()> {
        use mio::unix::SourceFd;
        use mio::{Events, Interest, Poll, Token};
        let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(8));
        // Edge-triggered, as all of mio: `take` until there is no more is what that asks for, and once is enough here.
        poll.registry().register(&mut SourceFd(&durable.as_raw_fd()), Token(0), Interest::READABLE)?;
        while owed.reply_up_to(durable.take().map_err(io::Error::other)?) {
            or_early(poll.poll(&mut events, None))?;
        }
        Ok(())
    }

    fn tokio(durable: DurableFd, owed: &mut Owed) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let durable = async_fd(durable)?;
            while owed.reply_up_to(durable.get_ref().take().map_err(io::Error::other)?) {
                durable.readable().await?.clear_ready();
            }
            Ok(())
        })
    }

    pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
        let database = Database::make("loops")?;
        for (name, wait) in
            [("epoll", epoll as fn(&DurableFd, &mut Owed) -> io::Result<()>), ("io_uring", uring), ("mio", mio)]
        {
            let durable = database.engine.durable_fd()?;
            let mut owed = Owed::commits(&database)?;
            wait(&durable, &mut owed)?;
            println!("{name}: 100 commits are durable");
        }
        let durable = database.engine.durable_fd()?;
        let mut owed = Owed::commits(&database)?;
        tokio(durable, &mut owed)?;
        println!("tokio: 100 commits are durable");
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    #[cfg(target_os = "linux")]
    return linux::main();
    #[cfg(not(target_os = "linux"))]
    {
        println!("this program is about Linux: elsewhere `durable_fd` is a pipe, for poll and kqueue");
        Ok(())
    }
}
