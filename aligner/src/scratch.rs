//! Working memory of the threads of a parallel loop.

use std::cell::RefCell;

use thread_local::ThreadLocal;

/// One value per thread, kept from one part of a loop to the next (and from loop to loop, where it is kept):
/// taking memory from the system anew for each part costs more than many a part itself.
pub(crate) struct PerThread<T: Send>(ThreadLocal<RefCell<T>>);

impl<T: Default + Send> PerThread<T> {
    pub(crate) fn new() -> Self {
        Self(ThreadLocal::new())
    }

    /// Lends this thread's value, as the thread left it. `use_it` must not itself wait for parallel work.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> R {
        use_it(&mut self.0.get_or_default().borrow_mut())
    }
}
