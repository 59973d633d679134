//! The lock types, all built on one primitive, and the guard of a held lock.

mod adopt;
mod budget;
mod cancelling;
mod face;
mod guard;
mod lock_set;
mod lock_set_guard;
mod options;
mod pending;
mod rw_lock;
mod semaphore;
mod simple_lock;
mod unseen;
mod wake_all;
mod watchdog;

pub(crate) use self::budget::Budget;
pub use self::guard::Guard;
pub use self::lock_set::LockSet;
pub use self::lock_set_guard::LockSetGuard;
pub use self::options::LockOptions;
pub use self::rw_lock::RwLock;
pub use self::semaphore::Semaphore;
pub use self::simple_lock::SimpleLock;
pub use self::watchdog::Watchdog;
