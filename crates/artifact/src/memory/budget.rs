//! An allocator that can hold a thread to a budget, for code of others that is fed downloaded data: it bounds memory where
//! no argument can.
//!
//! It is here because this is where unsafe code is; it has nothing to do with MLX, whose own memory it does not see. A thread
//! that asks for more than its budget gets no answer: an allocator may neither unwind nor, in stable Rust, fail without
//! ending the process. The thread sleeps with what it has until the process ends, and whoever waits for it is told.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};
use std::{ptr, thread};

/// The system's allocator, with budgets for the threads of [`within`]. A program installs it with `#[global_allocator]`;
/// without it [`within`] bounds time alone.
#[derive(Debug)]
pub struct BudgetAllocator;

/// What a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that the call may hold at one time.
    pub memory: usize,
    /// How long it may take.
    pub time: Duration,
    /// Bytes of stack; address space, not memory, until touched.
    pub stack: usize,
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exceeded {
    /// It wanted more memory.
    Memory,
    /// It took longer.
    Time,
    /// It panicked.
    Panicked,
    /// The system gave no thread.
    NoThread,
}

struct Account {
    left: AtomicIsize,
    /// Over budget, or given up by whoever waits: the next allocation is the last.
    closed: AtomicBool,
}

thread_local! {
    /// The account of this thread; null for most.
    static ACCOUNT: Cell<*const Account> = const { Cell::new(ptr::null()) };
}

/// Runs `call` in a thread of its own with this budget.
///
/// # Errors
/// The budget was not enough, or the call panicked. A call that was stopped keeps its thread and at most its budget of memory.
pub fn within<T, F>(budget: Budget, call: F) -> Result<T, Exceeded>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let left = AtomicIsize::new(isize::try_from(budget.memory).unwrap_or(isize::MAX));
    let account = Arc::new(Account { left, closed: AtomicBool::new(false) });
    let (sender, receiver) = sync_channel(1);
    let own = Arc::clone(&account);
    let body = move || {
        ACCOUNT.set(Arc::as_ptr(&own));
        let result = catch_unwind(AssertUnwindSafe(call));
        // `own` lives until after this.
        ACCOUNT.set(ptr::null());
        let _ = sender.send(result);
        drop(own);
    };
    let thread = thread::Builder::new().name("bounded".to_owned()).stack_size(budget.stack);
    thread.spawn(body).map_err(|_| Exceeded::NoThread)?;
    let deadline = Instant::now() + budget.time;
    loop {
        match receiver.recv_timeout(Duration::from_millis(5)) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(Exceeded::Panicked),
            Err(RecvTimeoutError::Timeout) if account.closed.load(Ordering::Relaxed) => return Err(Exceeded::Memory),
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => {
                account.closed.store(true, Ordering::Relaxed);
                return Err(Exceeded::Time);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Takes `bytes` (or gives them back) from this thread's account, if it has one. Returns only if it may go on.
fn charge(bytes: isize) {
    // Gone while the thread ends: nobody's call any more.
    let account = ACCOUNT.try_with(Cell::get).unwrap_or(ptr::null());
    if account.is_null() {
        return;
    }
    // SAFETY: set by `within` alone, on the very thread that keeps the `Arc` alive until it has set null again.
    let account = unsafe { &*account };
    let left = account.left.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes);
    if bytes > 0 && (left < 0 || account.closed.load(Ordering::Relaxed)) {
        account.closed.store(true, Ordering::Relaxed);
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

fn signed(size: usize) -> isize {
    isize::try_from(size).unwrap_or(isize::MAX)
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, and what it returns is returned;
// beside that, numbers are counted in an atomic, without allocating or unwinding.
unsafe impl GlobalAlloc for BudgetAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        charge(signed(layout.size()));
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        charge(signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        charge(-signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        charge(signed(size) - signed(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Budget = Budget { memory: 1 << 20, time: Duration::from_secs(60), stack: 1 << 20 };

    #[test]
    fn what_fits_is_answered() {
        // Far more in all than at any one time.
        let sum = within(SMALL, || (0..1000_u64).map(|i| vec![i; 10_000].iter().sum::<u64>()).sum::<u64>());
        assert_eq!(sum, Ok(499_500 * 10_000));
        assert_eq!(within(SMALL, || -> () { std::panic::resume_unwind(Box::new(())) }), Err(Exceeded::Panicked));
    }

    #[test]
    fn what_does_not_is_told() {
        assert_eq!(within(SMALL, || vec![0_u8; 2 << 20].len()), Err(Exceeded::Memory));
        assert_eq!(within(SMALL, || vec![1_u8; usize::MAX / 4].len()), Err(Exceeded::Memory));
        let growing = || {
            let mut text = "x".to_owned();
            loop {
                text = format!("{text}{text}");
            }
        };
        assert_eq!(within::<(), _>(SMALL, growing), Err(Exceeded::Memory));
        let brief = Budget { time: Duration::from_millis(50), ..SMALL };
        let endless = || {
            loop {
                std::hint::black_box(vec![0_u8; 100]);
            }
        };
        assert_eq!(within::<(), _>(brief, endless), Err(Exceeded::Time));
        // Others are not held to anything.
        assert_eq!(vec![0_u8; 64 << 20].len(), 64 << 20);
    }
}
